"""How row indices go through array operations; -1 stands for no row, -2 for several."""

from functools import reduce
from typing import Any

import jax
import numpy as np


def merge(*ids: np.ndarray) -> np.ndarray:
    """The row that all agree on, entry by entry."""
    return reduce(_merge, ids)


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(a == b, a, np.where(a == -1, b, np.where(b == -1, a, -2))).astype(np.int32)


def reduced(ids: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The row of a sum over axes."""
    if not axes:
        return ids
    if ids.size == 0:
        return np.full(np.sum(ids, axis=axes).shape, -1, np.int32)
    high = ids.max(axis=axes)
    low = np.where(ids == -1, np.iinfo(np.int32).max, ids).min(axis=axes)
    return np.where(high == -1, np.where(low == -2, -2, -1), np.where(low == high, high, -2)).astype(np.int32)


def along(ids: np.ndarray, axis: int) -> np.ndarray:
    """Every entry along the axis sees all of them."""
    return np.broadcast_to(np.expand_dims(reduced(ids, (axis,)), axis), ids.shape)


def spread(ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What all entries together depend on, everywhere."""
    return np.broadcast_to(reduced(ids, tuple(range(ids.ndim))), shape)


def contracted(ids: list[np.ndarray], dimensions: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A product of two arrays summed over common axes: batch axes first, then those of the left, those of the right."""
    sums, batches = dimensions
    parts = []
    for side in (0, 1):
        array, contract, batch = ids[side], tuple(sums[side]), tuple(batches[side])
        free = [axis for axis in range(array.ndim) if axis not in contract and axis not in batch]
        turned = np.transpose(array, [*batch, *free, *contract])
        kept = reduced(turned, tuple(range(len(batch) + len(free), turned.ndim)))
        gap = len(shape) - kept.ndim
        where = kept.shape[: len(batch)]
        rest = kept.shape[len(batch) :]
        filled = where + rest + (1,) * gap if side == 0 else where + (1,) * gap + rest
        parts.append(np.broadcast_to(kept.reshape(filled), shape))
    return merge(*parts)


def gathered(
    ids: list[np.ndarray], index_depends: bool, eqn: Any, inputs: list[Any], shape: tuple[int, ...]
) -> np.ndarray:
    """Entries picked by indices that themselves depend on latents."""
    numbers = eqn.params["dimension_numbers"]
    operand, index = ids
    batch_axes = [axis for axis in range(len(shape)) if axis not in numbers.offset_dims]

    def place(array: np.ndarray, axes: list[int]) -> np.ndarray:
        """An array over some of the result's batch axes, over the whole result."""
        order = np.argsort(axes)
        full = np.ones(len(shape), int)
        for axis, size in zip(axes, array.shape, strict=True):
            full[axis] = size
        return np.broadcast_to(np.transpose(array, order).reshape(full), shape)

    from_index = place(reduced(index, (index.ndim - 1,)), batch_axes)
    if not index_depends:
        params = {**eqn.params, "fill_value": -1}
        from_operand = np.asarray(eqn.primitive.bind(jax.numpy.asarray(operand), inputs[1], **params))
        return merge(from_operand, from_index)
    kept = tuple(numbers.operand_batching_dims)
    others = tuple(axis for axis in range(operand.ndim) if axis not in kept)
    batched = np.transpose(reduced(operand, others), np.argsort(np.argsort(kept))) if kept else reduced(operand, others)
    axes = [batch_axes[axis] for axis in numbers.start_indices_batching_dims]
    if kept:
        # reduced() leaves the kept axes in ascending order; the batching dims list them in their own order
        batched = np.transpose(reduced(operand, others), [sorted(kept).index(axis) for axis in kept])
    return merge(place(batched, axes), from_index)
