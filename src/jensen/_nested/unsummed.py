"""A log density as many rows: the sums, scalings and selections at the end of its program are undone.

What is left are the arrays before them, a row for every entry: a data value, an edge of a map, a quadratic form's
product. Each row sees few latents, so that its second derivatives are few; the log density is the rows' weighted sum.
What does not depend on the latents is computed once, when the program is read.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr, Literal

from jensen._base.typing import Array, Scalar
from jensen._nested.states import States, band, directions, innovations
from jensen._program.folding import bind

CALLS = ("jit", "pjit", "closed_call", "core_call")
LINEAR = frozenset(
    ("add", "sub", "neg", "add_any", "reduce_sum", "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose",
     "slice", "concatenate", "copy", "rev", "cumsum", "pad", "convert_element_type", "select_n")
)  # fmt: skip
"""Primitives that are linear in all operands but what they are told by."""
FIRST = {"mul": (0, 1), "dot_general": (0, 1), "div": (0,), "gather": (0,), "dynamic_slice": (0,)}
"""Primitives that are linear in one operand while the others are constant, and which operands these are."""
OFFSET, BAND = -1, -2
"""Numbers of the values by which innovations are told from states."""


class _Equation(NamedTuple):
    """One primitive on numbered values; `size` numbers are computed by it."""

    primitive: Any
    params: dict[str, Any]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    size: int

    def run(self, values: dict[int, Any]) -> None:
        found = bind(self.primitive, self.params, [values[i] for i in self.operands])
        values.update(zip(self.results, found, strict=True))


class Unsummed:
    """A function of D latents, as rows; made while it is traced, and used in the same trace.

    Its call is the function itself, `rows` the arrays that add up to it, each with its weights, and what is left. With
    `states` it is a density of these in the place of the latents, and `latents` tells one from the other.
    """

    def __init__(self, function: Callable[[Array], Scalar], like: Array, states: States | None = None):
        closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(like.shape, like.dtype))
        self._values: dict[int, Any] = {}
        self._count, self._shapes = 1, {0: like.shape}  # the latents are value 0; shapes of what has derivatives
        equations: list[_Equation] = []
        (self._out,) = self._read(closed.jaxpr, closed.consts, [0], equations)
        moving = {0}
        self._equations: list[_Equation] = []
        for one in equations:
            if moving.intersection(one.operands):
                moving.update(one.results)
                self._equations.append(one)
            else:
                one.run(self._values)
        self._state, self._rise, told = None, 0.0, {}
        if states is not None:
            told = self._from_states(states, like)
        self._tail, self._ends = self._undone(self._smooth())
        used = {self._out}.union(*(one.operands for one in self._equations)) - moving
        self._values = {i: jnp.asarray(self._values[i]) for i in sorted(used)} | told
        # traced once each, however often they are differentiated
        self._whole = jax.jit(lambda values, z: self._at(values, z)[self._out])
        self._parted = jax.jit(self._rows_at)

    def _smooth(self) -> set[int]:
        """Values that have derivatives with regard to the latents."""
        found = {0} if self._state is None else {0, self._state}
        for one in self._equations:
            if found.intersection(one.operands) and one.primitive.name != "stop_gradient":
                found.update(i for i in one.results if i in self._shapes)
        return found

    @property
    def arrays(self) -> list[tuple[int, int]]:
        """Equations, and their results, of as many entries as there are latents, without which the rest can do."""
        size, found = math.prod(self._shapes[0]), []
        for index, one in enumerate(self._equations):
            for k, number in enumerate(one.results):
                if math.prod(self._shapes.get(number, (0,))) == size:
                    spared = all(other is not one for other in self._needed(self._out, number))
                    found += [(index, k)] if spared else []
        return found

    def at_arrays(self, z: Array) -> Array:
        """These arrays at z, (C, D)."""
        values = self._at(self._values, z)
        found = [jnp.ravel(values[self._equations[i].results[k]]) for i, k in self.arrays]
        return jnp.stack(found) if found else jnp.zeros((0, z.size), z.dtype)

    def _needed(self, number: int, known: int | None = None) -> list[_Equation]:
        """The equations from which a value follows, where another one is known."""
        wanted, found = {number}, []
        for one in reversed(self._equations):
            if (wanted - {known}).intersection(one.results):
                found.append(one)
                wanted.update(one.operands)
        return found[::-1]

    def _from_states(self, states: States, like: Array) -> dict[int, Any]:
        """Go on from the states alone; what tells the latents from them."""
        number = self._equations[states.equation].results[states.result]
        path = self._needed(number)

        def made(z: Array) -> Array:
            values = {**self._values, 0: z}
            for one in path:
                one.run(values)
            return jnp.ravel(values[number])

        offset, push = jax.linearize(made, jnp.zeros_like(like))
        moves = jnp.asarray(directions(states.lags, like.size), like.dtype)
        diagonals = band(jax.vmap(push)(moves), moves)
        self._equations, self._state = self._needed(self._out, number), number
        self._rise = jnp.sum(jnp.log(jnp.abs(diagonals[0])))
        return {OFFSET: offset, BAND: diagonals}

    def latents(self, z: Array) -> Array:
        """The program's own latents (D,) where the field's coordinates are z."""
        return z if self._state is None else innovations(z, self._values[OFFSET], self._values[BAND])

    @property
    def work(self) -> int:
        """Numbers that are computed for one value."""
        return sum(one.size for one in self._equations)

    def held(self) -> "Unsummed":
        """The same function, with everything it depends on held constant by differentiation."""
        found = copy.copy(self)
        found._values = {i: lax.stop_gradient(value) for i, value in self._values.items()}
        found._rise = lax.stop_gradient(self._rise)
        return found

    def _read(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[int], out: list[_Equation]) -> list[int]:
        """Append the program's equations to `out`, inner programs written out; the numbers of its outputs."""
        names: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))

        def known(value: Any) -> int:
            self._values[self._count] = value
            self._count += 1
            return self._count - 1

        names.update({var: known(value) for var, value in zip(jaxpr.constvars, consts, strict=True)})
        for eqn in jaxpr.eqns:
            own = [known(v.val) if isinstance(v, Literal) else names[v] for v in eqn.invars]
            if eqn.primitive.name in CALLS:
                inner = eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
                results = self._read(inner.jaxpr, inner.consts, own, out)
            else:
                results = list(range(self._count, self._count + len(eqn.outvars)))
                self._count += len(results)
                avals: list[Any] = [v.aval for v in eqn.outvars]
                kinds = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals]
                shapes = [aval.shape for aval in avals]
                self._shapes.update((i, s) for i, s, real in zip(results, shapes, kinds, strict=True) if real)
                out.append(_Equation(eqn.primitive, eqn.params, tuple(own), tuple(results), _size(eqn)))
            names.update(zip(eqn.outvars, results, strict=True))
        return [known(v.val) if isinstance(v, Literal) else names[v] for v in jaxpr.outvars]

    def _undone(self, smooth: set[int]) -> tuple[list[_Equation], list[int]]:
        """The linear equations at the end, and the values that they begin with."""
        wanted, tail, ends = {self._out} & smooth, [], []
        for one in reversed(self._equations):
            hit = wanted.intersection(one.results)
            if not hit:
                continue
            name = one.primitive.name
            begin = 1 if name == "select_n" else 0
            own = [i for i, v in enumerate(one.operands) if v in smooth and i >= begin]
            alone = len(own) == 1 and own[0] in FIRST.get(name, ())
            if name in LINEAR or alone:
                tail.append(one)
                wanted.update(one.operands[i] for i in own)
            else:
                ends += sorted(hit)
        return tail[::-1], ends + [i for i in (0, self._state) if i in wanted]

    def _at(self, known: dict[int, Any], z: Array) -> dict[int, Any]:
        values = {**known, 0: z}
        if self._state is not None:
            values[0] = innovations(z, known[OFFSET], known[BAND])
            values[self._state] = jnp.reshape(z, self._shapes[self._state])
        for one in self._equations:
            one.run(values)
        return values

    def _rows_at(self, known: dict[int, Any], z: Array) -> list[Array]:
        values = self._at(known, z)

        def total(ends: list[Array]) -> Scalar:
            own = {**values, **dict(zip(self._ends, ends, strict=True))}
            for one in self._tail:
                one.run(own)
            return own[self._out]

        found = [values[i] for i in self._ends]
        weights = jax.grad(total)([jnp.zeros_like(one) for one in found]) if found else []
        return [jnp.ravel(weight * one) for weight, one in zip(weights, found, strict=True)]

    def __call__(self, z: Array) -> Scalar:
        """The function at z."""
        return self._whole(self._values, z) + self._rise

    def rows(self, z: Array) -> list[Array]:
        """The arrays whose sum is the function, but for what does not depend on z."""
        return self._parted(self._values, z)


def _size(eqn: Any) -> int:
    """Numbers that an equation computes; for a product of matrices, that it multiplies."""
    found = sum(v.aval.size for v in eqn.outvars)
    if eqn.primitive.name != "dot_general":
        return found
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return found * math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
