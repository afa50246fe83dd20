"""Where a known array comes from: the computations of the analysis, read back entry by entry as expressions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jensen._conjugate.algebra.terms import Axis
from jensen._explain.equations.expression import (
    Apply,
    Element,
    Equal,
    Expr,
    Index,
    Number,
    power,
    product,
    sum_of,
    total,
)
from jensen._program.folding import bind, called, walked

Places = tuple[Expr, ...]
"""One index expression for each axis of an array."""

NAMES = {
    "log": "log", "exp": "exp", "lgamma": "lgamma", "digamma": "digamma", "abs": "abs", "sign": "sign", "tanh": "tanh",
    "log1p": "log1p", "max": "max", "min": "min", "floor": "floor", "logistic": "logistic", "not": "not", "eq": "eq",
    "ne": "ne", "lt": "lt", "gt": "gt", "le": "le", "ge": "ge",
}  # fmt: skip
"""Elementwise primitives that are printed as functions."""
SAME = {"convert_element_type", "copy", "stop_gradient", "copy_p", "reduce_precision"}


class Step(NamedTuple):
    """One primitive: its operands (variables or arrays) and which of its outputs is meant."""

    primitive: Any
    params: dict[str, Any]
    operands: tuple[Any, ...]
    output: int


class Provenance:
    """The computations behind the outputs of a jaxpr whose inputs are named arrays.

    `entry(variable, places)` is the expression of one entry; computations that have no readable form become an array
    named after the data that they use, whose values are computed when the expression is evaluated.
    """

    def __init__(self, closed: Any, names: Sequence[str], arrays: Mapping[str, Any], taken: Iterable[str] = ()):
        self.arrays = dict(arrays)
        self.taken = {*arrays, *taken}
        self.steps: dict[Any, Step] = {}
        self.inputs: dict[Any, str] = dict(zip(closed.jaxpr.invars, names, strict=True))
        self.values: dict[Any, Any] = {v: self.arrays[n] for v, n in self.inputs.items()}
        self.constants: dict[str, np.ndarray] = {}
        self.named: dict[str, list[Any]] = {}
        self.inner: dict[tuple[int, int], Axis] = {}
        self.outputs = self._flatten(closed.jaxpr, closed.consts, list(closed.jaxpr.invars))

    def _flatten(self, jaxpr: Any, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        def step(eqn: Any, given: list[Any]) -> list[Any]:
            inner = called(eqn)
            if inner is not None:
                return self._flatten(*inner, given)
            made = []
            for i, out in enumerate(eqn.outvars):
                made.append(_Variable(out.aval.shape, (id(jaxpr), len(self.steps), out)))
                self.steps[made[i]] = Step(eqn.primitive, eqn.params, tuple(given), i)
            return made

        return walked(jaxpr, consts, operands, step, self._host)

    def _host(self, const: Any, aval: Any) -> Any:
        """A constant as a NumPy array; as a variable of known value where it is none (a random key)."""
        try:
            return np.asarray(const, aval.dtype)
        except TypeError:
            variable = _Variable(np.shape(const), "constant")
            self.values[variable], self.steps[variable] = const, Step(None, {}, (), 0)
            return variable

    def value(self, variable: Any) -> Any:
        """The array that a variable holds."""
        if isinstance(variable, np.ndarray):
            return variable
        if variable not in self.values:
            step = self.steps[variable]
            operands = [self.value(v) for v in step.operands]
            self.values[variable] = bind(step.primitive, step.params, list(map(_device, operands)))[step.output]
        return self.values[variable]

    def summed(self, step: Step, axis: int, size: int) -> Axis:
        """The label that a step sums over, the same one whenever it is asked for."""
        return self.inner.setdefault((id(step.params), axis), Axis(size))

    def sources(self, variable: Any) -> list[str]:
        """The named inputs that a variable depends on."""
        if isinstance(variable, np.ndarray):
            return []
        if variable in self.inputs:
            return [self.inputs[variable]]
        return list(dict.fromkeys(name for v in self.steps[variable].operands for name in self.sources(v)))

    def holding(self, names: Sequence[str]) -> set[str]:
        """These inputs, and the arrays without a readable form that depend on them."""
        opaque = {self._title(v): v for group in self.named.values() for v in group}
        return {*names, *(title for title, v in opaque.items() if set(self.sources(v)) & set(names))}

    def constant(self, array: np.ndarray, places: Places) -> Expr:
        """An entry of a known array without history: a number, an index, a Kronecker delta or a named constant."""
        array, places = _squeezed(array, places)
        if array.ndim == 0:
            return Number(float(array))
        if array.ndim == 1 and array.dtype.kind in "iuf" and len(array) > 1 and np.isfinite(array).all():
            steps = np.arange(len(array))
            if np.array_equal(array - array[0], steps) and float(array[0]).is_integer():
                return _shifted(places[0], int(array[0])) if array[0] else places[0]
            if set(np.unique(array)) == {0, 1} and array.sum() == 1:
                return _equal(places[0], Number(float(np.argmax(array))))
        square = array.ndim == 2 and array.shape[0] == array.shape[1]
        if square and np.isfinite(array[0, 0]) and np.array_equal(array, array[0, 0] * np.eye(len(array))):
            return product([_equal(*places)], float(array[0, 0]))
        for name, known in {**self.arrays, **self.constants}.items():
            if not isinstance(known, np.ndarray):
                continue
            if known.shape == array.shape and known.dtype.kind in "iufb" and np.array_equal(known, array):
                return Element(name, places, array)
        name = next(n for i in range(1, 10_000) if (n := f"C{i}") not in self.taken and n not in self.constants)
        self.constants[name] = array
        return Element(name, places, array)

    def entry(self, variable: Any, places: Places) -> Expr:
        """The expression of `variable[places]`."""
        if isinstance(variable, np.ndarray):
            return self.constant(variable, places)
        if variable in self.inputs:
            return Element(self.inputs[variable], places, self.arrays[self.inputs[variable]])
        step = self.steps[variable]
        rule = RULES.get(step.primitive.name)
        found = rule(self, step, places) if rule is not None else None
        return found if found is not None else self._opaque(variable, places)

    def _opaque(self, variable: Any, places: Places) -> Expr:
        return Element(self._title(variable), places, lambda: np.asarray(self.value(variable)))

    def _title(self, variable: Any) -> str:
        """The primitive and what it depends on, numbered where several are alike."""
        name = f"{self.steps[variable].primitive.name}({', '.join(self.sources(variable))})"
        same = self.named.setdefault(name, [])
        if variable not in same:
            same.append(variable)
        return name if same[0] is variable else f"{name}#{same.index(variable) + 1}"


class _Variable:
    """A variable of the flattened program."""

    def __init__(self, shape: tuple[int, ...], name: Any):
        self.shape, self.name = shape, name


def _device(array: Any) -> Any:
    return jnp.asarray(array) if isinstance(array, np.ndarray) else array


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.shape) if hasattr(variable, "shape") else tuple(variable.aval.shape)


def _squeezed(array: np.ndarray, places: Places) -> tuple[np.ndarray, Places]:
    """Without the axes along which the array is constant."""
    kept = []
    for axis in range(array.ndim - 1, -1, -1):
        first = np.take(array, [0], axis)
        if array.shape[axis] == 1 or (array == first).all():
            array = np.take(array, 0, axis)
        else:
            kept.append(places[axis])
    return array, tuple(reversed(kept))


def _equal(left: Expr, right: Expr) -> Expr:
    if isinstance(left, Number) and isinstance(right, Number):
        return Number(float(left.value == right.value))
    return Number(1.0) if left == right else Equal(left, right)


Rule = Callable[[Provenance, Step, Places], Expr | None]
RULES: dict[str, Rule] = {}


def _elementwise(name: str, build: Callable[..., Expr]) -> None:
    def rule(self: Provenance, step: Step, places: Places) -> Expr:
        return build(*(self.entry(v, places if _shape(v) else ()) for v in step.operands))

    RULES[name] = rule


_elementwise("add", lambda a, b: sum_of([a, b]))
_elementwise("add_any", lambda a, b: sum_of([a, b]))
_elementwise("sub", lambda a, b: sum_of([a, product([b], -1.0)]))
_elementwise("mul", lambda a, b: product([a, b]))
_elementwise("div", lambda a, b: product([a, power(b, -1.0)]))
_elementwise("neg", lambda a: product([a], -1.0))
_elementwise("sqrt", lambda a: power(a, 0.5))
_elementwise("rsqrt", lambda a: power(a, -0.5))
_elementwise("square", lambda a: power(a, 2.0))
for _name in SAME:
    _elementwise(_name, lambda a: a)
for _name, _shown in NAMES.items():
    _elementwise(_name, lambda *a, shown=_shown: Apply(shown, a))


def _rule(name: str) -> Callable[[Rule], Rule]:
    def register(fn: Rule) -> Rule:
        RULES[name] = fn
        return fn

    return register


@_rule("integer_pow")
def _integer_pow(self: Provenance, step: Step, places: Places) -> Expr:
    return power(self.entry(step.operands[0], places), float(step.params["y"]))


@_rule("pow")
def _pow(self: Provenance, step: Step, places: Places) -> Expr | None:
    base, exponent = (self.entry(v, places if _shape(v) else ()) for v in step.operands)
    return power(base, exponent.value) if isinstance(exponent, Number) else None


@_rule("select_n")
def _select(self: Provenance, step: Step, places: Places) -> Expr | None:
    """A choice; `where(i < 0, i + n, i)`, by which JAX reads negative indices, is i."""
    if len(step.operands) != 3:
        return None
    which, no, yes = (self.entry(v, places if _shape(v) else ()) for v in step.operands)
    if isinstance(which, Number):
        return yes if which.value else no
    wrapped = isinstance(which, Apply) and which.name == "lt" and which.args == (no, Number(0.0))
    return no if wrapped or yes == no else Apply("where", (which, yes, no))


@_rule("broadcast_in_dim")
def _broadcast(self: Provenance, step: Step, places: Places) -> Expr:
    shape = _shape(step.operands[0])
    at = [places[axis] if shape[i] != 1 else Number(0.0) for i, axis in enumerate(step.params["broadcast_dimensions"])]
    return self.entry(step.operands[0], tuple(at))


@_rule("reshape")
def _reshape(self: Provenance, step: Step, places: Places) -> Expr | None:
    old, new = _shape(step.operands[0]), tuple(step.params["new_sizes"])
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        return None
    kept = iter(p for p, n in zip(places, new, strict=True) if n != 1)
    return self.entry(step.operands[0], tuple(Number(0.0) if n == 1 else next(kept) for n in old))


@_rule("squeeze")
def _squeeze(self: Provenance, step: Step, places: Places) -> Expr:
    kept, rank = iter(places), len(_shape(step.operands[0]))
    dropped = {d % rank for d in step.params["dimensions"]}
    return self.entry(step.operands[0], tuple(Number(0.0) if i in dropped else next(kept) for i in range(rank)))


@_rule("expand_dims")
def _expand(self: Provenance, step: Step, places: Places) -> Expr:
    new = set(step.params["dimensions"])
    return self.entry(step.operands[0], tuple(p for i, p in enumerate(places) if i not in new))


@_rule("transpose")
def _transpose(self: Provenance, step: Step, places: Places) -> Expr:
    at: list[Expr] = [Number(0.0)] * len(places)
    for i, axis in enumerate(step.params["permutation"]):
        at[axis] = places[i]
    return self.entry(step.operands[0], tuple(at))


@_rule("slice")
def _slice(self: Provenance, step: Step, places: Places) -> Expr | None:
    if any(s != 1 for s in step.params["strides"] or ()):
        return None
    return self.entry(step.operands[0], tuple(map(_shifted, places, step.params["start_indices"])))


def _shifted(place: Expr, start: int) -> Expr:
    if isinstance(place, Index):
        return Index(place.label, place.shift + start)
    return sum_of([place, Number(float(start))])


@_rule("reduce_sum")
def _reduce_sum(self: Provenance, step: Step, places: Places) -> Expr:
    shape, kept = _shape(step.operands[0]), iter(places)
    axes = {a: self.summed(step, a, shape[a]) for a in step.params["axes"]}
    at = tuple(Index(axes[i]) if i in axes else next(kept) for i in range(len(shape)))
    return total(axes.values(), self.entry(step.operands[0], at))


@_rule("dot_general")
def _dot(self: Provenance, step: Step, places: Places) -> Expr:
    """The axes of the result are (batch, left, right)."""
    (left_sum, right_sum), (left_batch, right_batch) = step.params["dimension_numbers"]
    left, right = (_shape(v) for v in step.operands)
    summed = [self.summed(step, i, left[i]) for i in left_sum]
    batch, rest = places[: len(left_batch)], iter(places[len(left_batch) :])
    sides = []
    for shape, own, shared in ((left, left_sum, left_batch), (right, right_sum, right_batch)):
        at: list[Expr] = []
        for i in range(len(shape)):
            if i in own:
                at.append(Index(summed[list(own).index(i)]))
            else:
                at.append(batch[list(shared).index(i)] if i in shared else next(rest))
        sides.append(tuple(at))
    entries = [self.entry(v, at) for v, at in zip(step.operands, sides, strict=True)]
    return total(summed, product(entries))
