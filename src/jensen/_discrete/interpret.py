"""A program evaluated for all values of its discrete latents at once, each intermediate value only over those it needs.

Every discrete latent enters with an enumerated axis in front. An operation on tables gives a table over the union of
their axes, so the axes of a result are the latents that it depends on (never too few). Natural axes along which a value
is constant stay of size one through elementwise operations, broadcasts, gathers, movements and factorisations: the log
weights of a mixture are looked up, and its covariances factorised, once for each component, not once for each row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._discrete.gather import plan_lookup
from jensen._discrete.table import Alternating, Table, full, lift, union
from jensen._program.folding import bind, walked
from jensen._program.primitive_kinds import ELEMENTWISE, REDUCTIONS


class TooManyStatesError(Exception):
    """A value of the program depends on too many discrete latents at once; `axes` names them, `count` the states."""

    def __init__(self, axes: tuple[int, ...], count: float):
        self.axes, self.count = axes, count
        super().__init__(f"{count:.3g} states")


@dataclass(frozen=True)
class Limits:
    """Sizes of the enumerated axes, and how large a table may become: in states, and in elements."""

    sizes: Mapping[int, int]
    states: int
    elements: int

    def check(self, axes: tuple[int, ...], natural: Sequence[int]) -> None:
        """Raise `TooManyStatesError` for a table over `axes` whose natural axes are stored with sizes `natural`."""
        count = float(np.prod([self.sizes[axis] for axis in axes], dtype=float))
        if axes and (count > self.states or count * np.prod(natural, dtype=float) > self.elements):
            raise TooManyStatesError(axes, count)


def evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Table], limits: Limits) -> list[Table]:
    """The outputs of a jaxpr as tables."""

    def step(eqn: Any, tables: list[Table]) -> list[Table]:
        name = eqn.primitive.name
        inner = eqn.params.get("jaxpr") if name in ("jit", "pjit", "closed_call") else None
        if inner is not None:
            return evaluate(inner.jaxpr, inner.consts, tables, limits)
        rule = _elementwise if name in ELEMENTWISE else _reduce if name in REDUCTIONS else RULES.get(name)
        done = rule(eqn, tables, limits) if rule else None
        return _mapped(eqn, tables, limits) if done is None else [done]

    return walked(jaxpr, consts, inputs, step, lambda value, aval: Table(value))


def over_axes(function: Callable[..., Any], tables: Sequence[Table]) -> tuple[Any, tuple[int, ...]]:
    """`function` of the natural arrays, mapped over the tables' enumerated axes; those come first in the result."""
    axes = union(tables)
    for axis in reversed(axes):
        function = jax.vmap(function, in_axes=tuple(0 if axis in table.axes else None for table in tables))
    return function(*(table.array for table in tables)), axes


def _bind(eqn: Any) -> Callable[..., list[Any]]:
    return lambda *arrays: bind(eqn.primitive, eqn.params, list(arrays))


def _mapped(eqn: Any, tables: list[Table], limits: Limits) -> list[Table]:
    """Any operation: natural axes at their full sizes, enumerated ones mapped over."""
    axes = union(tables)
    for var in eqn.outvars:
        limits.check(axes, var.aval.shape)
    tables = [full(table, var.aval.shape) for table, var in zip(tables, eqn.invars, strict=True)]
    arrays, axes = over_axes(_bind(eqn), tables)
    return [Table(array, axes) for array in arrays]


def _elementwise(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    axes, ndim = union(tables), len(eqn.outvars[0].aval.shape)
    arrays = [lift(table, axes, ndim) for table in tables]
    shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
    limits.check(axes, shape[len(axes) :])
    return Table(_bind(eqn)(*(jnp.broadcast_to(a, shape) for a in arrays))[0], axes)


def _reduce(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    (table,) = tables
    table = full(table, eqn.invars[0].aval.shape, eqn.params["axes"])
    limits.check(table.axes, table.natural)
    params = {**eqn.params, "axes": tuple(axis + len(table.axes) for axis in eqn.params["axes"])}
    return Table(eqn.primitive.bind(table.array, **params), table.axes)


def _broadcast(eqn: Any, tables: list[Table], limits: Limits) -> Table | None:
    if len(tables) > 1:
        return None
    table, where = tables[0], eqn.params["broadcast_dimensions"]
    natural = [1] * len(eqn.params["shape"])
    for axis, size in zip(where, table.natural, strict=True):
        natural[axis] = size
    front = np.shape(table.array)[: len(table.axes)]
    return Table(jnp.reshape(table.array, (*front, *natural)), table.axes)


def _reshape(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    table, before, after = tables[0], eqn.invars[0].aval.shape, eqn.params["new_sizes"]
    front = np.shape(table.array)[: len(table.axes)]
    if [n for n in before if n != 1] == [n for n in after if n != 1]:
        stored = iter([have for have, n in zip(table.natural, before, strict=True) if n != 1])
        natural = [1 if n == 1 else next(stored) for n in after]
    else:
        table, natural = full(table, before), after
    return Table(jnp.reshape(table.array, (*front, *natural)), table.axes)


def _squeeze(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    table, count = tables[0], len(tables[0].axes)
    return Table(jnp.squeeze(table.array, tuple(count + d for d in eqn.params["dimensions"])), table.axes)


def _transpose(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    table, count = tables[0], len(tables[0].axes)
    order = (*range(count), *(count + axis for axis in eqn.params["permutation"]))
    return Table(jnp.transpose(table.array, order), table.axes)


def _slice(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    table, out = tables[0], table_slices(eqn)
    if isinstance(table, Alternating) and len(steps := range(*out[0].indices(eqn.invars[0].aval.shape[0]))) > 0:
        whole = [have == n for have, n in zip(eqn.outvars[0].aval.shape[1:], eqn.invars[0].aval.shape[1:], strict=True)]
        if all(whole) and (len(steps) == 1 or steps.step % 2 == 0):
            return table.every_second(steps.start)
    parts = [slice(None) if have == 1 else part for have, part in zip(tables[0].natural, out, strict=True)]
    return Table(table.array[(slice(None),) * len(table.axes) + tuple(parts)], table.axes)


def table_slices(eqn: Any) -> list[slice]:
    """The slices that a `slice` operation takes."""
    strides = eqn.params["strides"] or [1] * len(eqn.params["start_indices"])
    return [
        slice(*bounds) for bounds in zip(eqn.params["start_indices"], eqn.params["limit_indices"], strides, strict=True)
    ]


def _reverse(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    table, count = tables[0], len(tables[0].axes)
    return Table(jnp.flip(table.array, tuple(count + d for d in eqn.params["dimensions"])), table.axes)


def _matrices(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    """Of the matrices in the last two axes, the axes before them as in elementwise operations."""
    axes, shape = union(tables), eqn.outvars[0].aval.shape
    last = (len(shape) - 2, len(shape) - 1)
    tables = [full(table, var.aval.shape, last) for table, var in zip(tables, eqn.invars, strict=True)]
    arrays = [lift(table, axes, len(shape)) for table in tables]
    front = np.broadcast_shapes(*(np.shape(a)[:-2] for a in arrays))
    limits.check(axes, (*front[len(axes) :], *shape[-2:]))
    return Table(_bind(eqn)(*(jnp.broadcast_to(a, (*front, *np.shape(a)[-2:])) for a in arrays))[0], axes)


def _concatenate(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    where, axes = eqn.params["dimension"], union(tables)
    tables = [full(table, var.aval.shape, [where]) for table, var in zip(tables, eqn.invars, strict=True)]
    arrays = [lift(table, axes, len(table.natural)) for table in tables]
    where += len(axes)
    common = np.broadcast_shapes(*((*np.shape(a)[:where], 1, *np.shape(a)[where + 1 :]) for a in arrays))
    limits.check(axes, (*common[len(axes) :], len(arrays)))
    arrays = [jnp.broadcast_to(a, (*common[:where], np.shape(a)[where], *common[where + 1 :])) for a in arrays]
    return Table(jnp.concatenate(arrays, where), axes)


def _gather(eqn: Any, tables: list[Table], limits: Limits) -> Table:
    lookup = plan_lookup(eqn, *tables)
    limits.check(union(tables), lookup.shape)
    return Table(*over_axes(lookup.function, [lookup.operand, lookup.indices]))


RULES: dict[str, Callable[[Any, list[Table], Limits], Table | None]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "slice": _slice,
    "rev": _reverse,
    "cholesky": _matrices,
    "triangular_solve": _matrices,
    "concatenate": _concatenate,
    "gather": _gather,
}
