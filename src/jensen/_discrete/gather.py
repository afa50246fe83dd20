"""Lookups in tables by tables, without spelling out the axes along which nothing varies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jensen._discrete.table import Table, full


@dataclass(frozen=True)
class Lookup:
    """A `gather` over the stored sizes of its two tables; `shape` is the natural shape of its result."""

    operand: Table
    indices: Table
    shape: tuple[int, ...]
    function: Callable[[Any, Any], Any]


def plan_lookup(eqn: Any, operand: Table, indices: Table) -> Lookup:
    """A JAX `gather` in which constant axes stay of size one.

    Paired ("batching") axes of the operand and the indices: where both are constant the pair goes, where the operand is
    it becomes an ordinary axis of the indices, and where the indices are it becomes a full slice of the operand: the
    log weights log p(z_n = k) of all rows are then K slices, not N K lookups.
    """
    numbers, sizes = eqn.params["dimension_numbers"], list(eqn.params["slice_sizes"])
    shape, index_shape = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape
    paired = dict(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    indexed = set(numbers.start_index_map) | set(numbers.collapsed_slice_dims)
    operand = full(operand, shape, sorted(indexed))
    indices = full(indices, index_shape, [len(index_shape) - 1])
    sliced = [axis for axis in range(len(shape)) if axis not in numbers.collapsed_slice_dims and axis not in paired]
    origin = _origins(numbers.offset_dims, sliced, len(eqn.outvars[0].aval.shape))
    for axis in sliced:
        if axis not in indexed:
            sizes[axis] = min(sizes[axis], operand.natural[axis])
    drop_operand, drop_index, kept = [], [], {}
    for axis, other in paired.items():
        constant, uniform = operand.natural[axis] == 1, indices.natural[other] == 1
        where = origin.index(("index", other))
        if constant:
            drop_operand.append(axis)
        if uniform:
            drop_index.append(other)
            origin[where] = ("none", 0) if constant else ("slice", axis)
        if uniform and not constant:
            sliced.append(axis)
            sizes[axis] = operand.natural[axis]
        if not uniform and not constant:
            kept[axis] = other
    left = [axis for axis in range(len(shape)) if axis not in drop_operand]
    left_index = [axis for axis in range(len(index_shape)) if axis not in drop_index]
    new, new_index = {a: i for i, a in enumerate(left)}, {a: i for i, a in enumerate(left_index)}
    order = [("index", axis) for axis in left_index[:-1]] + [("slice", axis) for axis in sorted(sliced)]
    fresh = jax.lax.GatherDimensionNumbers(
        offset_dims=tuple(range(len(left_index) - 1, len(order))),
        collapsed_slice_dims=tuple(new[axis] for axis in numbers.collapsed_slice_dims),
        start_index_map=tuple(new[axis] for axis in numbers.start_index_map),
        operand_batching_dims=tuple(new[axis] for axis in kept),
        start_indices_batching_dims=tuple(new_index[axis] for axis in kept.values()),
    )

    def look_up(array: Any, where: Any) -> Any:
        found = jax.lax.gather(
            jnp.squeeze(array, tuple(drop_operand)),
            jnp.squeeze(where, tuple(drop_index)),
            fresh,
            tuple(sizes[axis] for axis in left),
            mode=eqn.params["mode"],
            fill_value=eqn.params["fill_value"],
        )
        found = jnp.transpose(found, [order.index(entry) for entry in origin if entry[0] != "none"])
        return jnp.expand_dims(found, tuple(i for i, entry in enumerate(origin) if entry[0] == "none"))

    stored = {"slice": lambda axis: sizes[axis], "index": lambda axis: indices.natural[axis], "none": lambda axis: 1}
    return Lookup(operand, indices, tuple(stored[kind](axis) for kind, axis in origin), look_up)


def _origins(offset_dims: tuple[int, ...], sliced: list[int], rank: int) -> list[tuple[str, int]]:
    """Where each axis of the result comes from: ("slice", operand axis) or ("index", axis of the indices)."""
    offsets = dict(zip(sorted(offset_dims), sliced, strict=True))
    free = [position for position in range(rank) if position not in offsets]
    return [
        ("slice", offsets[position]) if position in offsets else ("index", free.index(position))
        for position in range(rank)
    ]
