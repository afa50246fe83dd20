"""Compiled programs, found again by what they compute.

Tracing is cheap and done anew for every model, so that nothing stale is ever used; compiling is not. Two functions that
trace to the same equations on arguments of the same shapes share one compiled program, whatever objects they came from:
a second fit of a model, with other data of the same shapes, compiles nothing.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.extend.core
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jensen._base.alone import alone, check_process

MAX_PROGRAMS = 512
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Compile in a seventh of the time or less; elementwise code then runs several times slower, library calls as fast.

XLA cuts a program into up to 32 modules for as many threads, and each costs LLVM its own setting up: two fifths of the
processor's time where little is optimised. Results change in their last bits at most.
"""
MIDDLE = {**QUICK, "xla_backend_optimization_level": 1, "xla_cpu_parallel_codegen_split_count": 2}
"""Less than half of the time of a full compilation; networks and their gradients then run as fast."""
_RULES = ("jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd")
_SHARED: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()


class Program:
    """A function of pytrees of arrays, compiled once for all equal programs of the process.

    `heavy` compiles with every optimisation, or with some ("middle"); otherwise compilation is quick, which suits
    programs whose run time is that of library calls, or negligible.
    """

    fn: Callable[..., Any]
    heavy: bool | str

    def __init__(self, fn: Callable[..., Any], heavy: bool | str = False):
        self.fn, self.heavy = fn, heavy
        self._known: dict[Hashable, tuple[Any, Any, Any, Jaxpr]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """The function's outputs, as arrays."""
        check_process()
        (compiled, consts, out, _), leaves = self._at(arguments)
        return jax.tree.unflatten(out, compiled(consts, leaves))

    def traced(self, *arguments: Any) -> Jaxpr:
        """The program for arguments like these; nothing is compiled."""
        return self._at(arguments)[0][3]

    def _at(self, arguments: Any) -> tuple[tuple[Any, Any, Any, Jaxpr], list[Any]]:
        leaves, tree = jax.tree.flatten(arguments)
        leaves = [_strong(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf) for leaf in leaves]
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        key = (tree, shapes, jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        if key not in self._known:
            self._known[key] = self._find(tree, leaves, shapes)
        return self._known[key], leaves

    @alone()
    def _find(self, tree: Any, leaves: list[Any], shapes: Hashable) -> tuple[Any, Any, Any, Jaxpr]:
        def flat(*values: Any) -> Any:
            return self.fn(*jax.tree.unflatten(tree, values))

        closed, out = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        jaxpr = _live(closed.jaxpr)
        consts = [c if isinstance(c, jax.Array) else np.asarray(c) for c in closed.consts]
        types = tuple((c.shape, c.dtype) for c in consts)
        mode = (self.heavy, jax.default_backend(), jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        key = (fingerprint(jaxpr), shapes, types, mode)
        if key in _SHARED:
            _SHARED.move_to_end(key)
        else:
            # The jaxpr is kept beside the program: objects named in the key by their identity stay alive.
            _SHARED[key] = (_compiled(jaxpr, self.heavy), jaxpr)
            if len(_SHARED) > MAX_PROGRAMS:
                _SHARED.popitem(last=False)
        return _SHARED[key][0], consts, jax.tree.structure(out), jaxpr


def _strong(leaf: jax.Array) -> jax.Array:
    """The array with a type that does not yield to others': weak ones would be compiled for again."""
    weak = getattr(leaf, "weak_type", False)
    return jax.lax.convert_element_type(leaf, np.dtype(leaf.dtype)) if weak else leaf


def _compiled(jaxpr: Jaxpr, heavy: bool | str) -> Callable[..., Any]:
    """(consts, leaves) -> outputs; an argument that is returned as it came is not copied."""
    options = {} if heavy is True else quick_options("middle" if heavy else "quick")
    same = _forwarded(jaxpr)

    @partial(jax.jit, compiler_options=options)
    def program(consts: Any, leaves: Any) -> Any:
        outputs = jax.extend.core.jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*leaves)
        return [out for out, place in zip(outputs, same, strict=True) if place is None]

    def run(consts: Any, leaves: Any) -> Any:
        computed = iter(program(consts, leaves))
        return [next(computed) if place is None else jax.device_put(leaves[place], may_alias=True) for place in same]

    return run


def _forwarded(jaxpr: Jaxpr) -> list[int | None]:
    """For each output, the argument that it equals; reshapes there and back keep the order of the entries."""
    places = {variable: i for i, variable in enumerate(jaxpr.invars)}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("reshape", "squeeze", "expand_dims") and eqn.params.get("dimensions") is None:
            (operand,), (result,) = eqn.invars, eqn.outvars
            if not isinstance(operand, Literal) and operand in places:
                places[result] = places[operand]
    found: list[int | None] = []
    for output in jaxpr.outvars:
        place = None if isinstance(output, Literal) else places.get(output)
        same = place is not None and str(jaxpr.invars[place].aval) == str(output.aval)
        found.append(place if same else None)
    return found


def _live(jaxpr: Jaxpr) -> Jaxpr:
    """The program without the equations that its outputs do not need; what has effects stays."""
    return jaxpr.replace(eqns=needed_equations(jaxpr, jaxpr.outvars, effects=True))


def needed_equations(jaxpr: Jaxpr, wanted: Iterable[Any], effects: bool = False) -> list[Any]:
    """The equations that the `wanted` variables need (and those with effects), in order."""
    needed = {v for v in wanted if not isinstance(v, Literal)}
    live = []
    for eqn in reversed(jaxpr.eqns):
        if (effects and eqn.effects) or any(v in needed for v in eqn.outvars):
            live.append(eqn)
            needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    return live[::-1]


@cache
def quick_options(level: str = "quick") -> dict[str, Any]:
    """The options of `QUICK` (or `MIDDLE`) that this XLA knows; none on accelerators, where they slow library calls."""
    if jax.default_backend() != "cpu":
        return {}
    wanted = QUICK if level == "quick" else MIDDLE
    if _accepted(wanted):
        return dict(wanted)
    return {name: value for name, value in wanted.items() if _accepted({name: value})}


def _accepted(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(np.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


class Graded:
    """A function that is compiled in one of two grades: wholly where it runs for long, in half of the time elsewhere.

    A `rare` one, of which a fit makes a few dozen calls, takes a quarter there. JAX's own caches then serve every call
    with the same shapes.
    """

    def __init__(self, fn: Callable[..., Any], rare: bool = False):
        self.fn, self.whole, self.level = fn, jax.jit(fn), "quick" if rare else "middle"

    @cached_property
    def light(self) -> Any:
        """Compiled with some optimisations."""
        return jax.jit(self.fn, compiler_options=quick_options(self.level))

    def at(self, heavy: bool) -> Any:
        """The grade for a function that dominates the time, or for one that does not."""
        return self.whole if heavy else self.light


def fingerprint(jaxpr: Jaxpr) -> Hashable:
    """Equal for programs of equal equations, whatever their variables are called."""
    numbers: dict[Any, int] = {}

    def place(variable: Any) -> Hashable:
        if isinstance(variable, Literal):
            value = np.asarray(variable.val)
            return ("literal", value.dtype, value.tobytes(), str(variable.aval))
        return numbers.setdefault(variable, len(numbers))

    inputs = [place(v) for v in (*jaxpr.constvars, *jaxpr.invars)]
    equations = []
    for eqn in jaxpr.eqns:
        operands = tuple(place(v) for v in eqn.invars)
        results = tuple((place(v), str(v.aval)) for v in eqn.outvars)
        # Rules of differentiation are functions made anew at every trace; they are not part of what is computed.
        computed = [(n, v) for n, v in sorted(eqn.params.items()) if n not in _RULES]
        params = tuple((name, _parameter(value)) for name, value in computed)
        equations.append((eqn.primitive, operands, results, params))
    return (len(inputs), tuple(equations), tuple(place(v) for v in jaxpr.outvars))


def primitives(jaxpr: Jaxpr) -> set[str]:
    """Names of all primitives, those of inner programs included."""
    found = set()
    for eqn in jaxpr.eqns:
        found.add(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (Jaxpr, ClosedJaxpr)):
                    found |= primitives(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)
    return found


def equal_outputs(jaxpr: Jaxpr) -> list[int]:
    """For each output the first one that the same equations compute from the same inputs; equations have no effects."""
    numbers: dict[Any, int] = {}
    known: dict[Hashable, int] = {}
    unused = itertools.count()

    def place(variable: Any) -> Hashable:
        if isinstance(variable, Literal):
            value = np.asarray(variable.val)
            return ("literal", value.dtype, value.tobytes(), str(variable.aval))
        return numbers[variable]

    roots: dict[int, tuple[int, str]] = {}  # of a reshaped array, the one it was before all reshapes
    numbers.update({variable: next(unused) for variable in (*jaxpr.constvars, *jaxpr.invars)})
    for eqn in jaxpr.eqns:
        if (
            eqn.primitive.name == "reshape"
            and eqn.params.get("dimensions") is None
            and not isinstance(eqn.invars[0], Literal)
        ):
            (operand,), (result,) = eqn.invars, eqn.outvars
            root, kind = roots.get(numbers[operand], (numbers[operand], str(operand.aval)))
            same = str(result.aval) == kind
            numbers[result] = root if same else known.setdefault(("reshape", root, str(result.aval)), next(unused))
            if not same:
                roots[numbers[result]] = (root, kind)
            continue
        params = tuple((name, _parameter(value)) for name, value in sorted(eqn.params.items()))
        key = (eqn.primitive, tuple(place(v) for v in eqn.invars), params, len(eqn.outvars))
        for i, variable in enumerate(eqn.outvars):
            new = next(unused)
            numbers[variable] = new if eqn.effects else known.setdefault((key, i, str(variable.aval)), new)
    outputs = [place(v) for v in jaxpr.outvars]
    return [outputs.index(out) for out in outputs]


def _parameter(value: Any) -> Hashable:
    if isinstance(value, ClosedJaxpr):
        return ("closed", fingerprint(value.jaxpr), tuple(_parameter(c) for c in value.consts))
    if isinstance(value, Jaxpr):
        return ("jaxpr", fingerprint(value))
    if isinstance(value, np.ndarray):
        return ("array", value.shape, value.dtype, value.tobytes())
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return ("sequence", tuple(_parameter(v) for v in value))
    if isinstance(value, dict):
        return ("mapping", tuple((k, _parameter(v)) for k, v in sorted(value.items())))
    if isinstance(value, float):
        return ("float", np.float64(value).tobytes())
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return (type(value).__name__, value)
