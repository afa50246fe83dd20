"""Numbers of rows at the entries of a term, and sums of entries over rows, with few lookups."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._program.dependence import MANY


def compact(index: np.ndarray) -> np.ndarray:
    """The index with every axis along which it is constant cut to size one: it stands for the same by broadcasting."""
    for axis, size in enumerate(index.shape):
        if size > 1:
            first = np.take(index, [0], axis)
            if (index == first).all():
                index = first
    return index


def at_entries(values: Array, index: np.ndarray) -> Array:
    """Numbers of rows (draws, rows, ...) at entries (*term), which broadcasts: (draws, *term, ...); zero for no row."""
    small = compact(index)
    flat = small.reshape(-1)
    if flat.size == values.shape[1] and np.array_equal(flat, np.arange(flat.size)):
        found = values
    else:
        found = values[:, np.maximum(flat, 0)]
        if (flat < 0).any():
            found = jnp.where((flat >= 0).reshape(-1, *[1] * (values.ndim - 2)), found, 0.0)
    return found.reshape(values.shape[0], *small.shape, *values.shape[2:])


def to_rows(values: Array, index: np.ndarray, members: np.ndarray) -> Array:
    """Sums of the entries (draws, *term) over each row of a group (draws, *rows) that they depend on."""
    shape, draws, count = members.shape, values.shape[0], members.size
    small = compact(index)
    gone = tuple(1 + axis for axis, size in enumerate(index.shape) if small.shape[axis] < size)
    values = jnp.sum(values, axis=gone, keepdims=True) if gone else values
    flat, rows = values.reshape(draws, -1), small.reshape(-1)
    if rows.size == count and np.array_equal(rows, np.arange(count)):
        return flat.reshape(draws, *shape)
    several, single = rows == MANY, rows >= 0
    own = jnp.zeros((draws, count), values.dtype)
    if single.any():
        where = np.flatnonzero(single)
        own = jax.vmap(lambda v: jax.ops.segment_sum(v[where], jnp.asarray(rows[where]), count))(flat)
    if several.any():
        shared = jnp.sum(jnp.where(several, flat, 0.0), axis=1, keepdims=True)
        own = own + jnp.where(members.reshape(-1), shared, 0.0)
    return own.reshape(draws, *shape)


__all__ = ["at_entries", "compact", "to_rows"]
