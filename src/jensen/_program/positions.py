"""Where the entries of a moved array come from, as flat positions in its operand."""

from typing import Any

import numpy as np


def flat_positions(shape: tuple[int, ...], start: int = 0) -> np.ndarray:
    """The flat position of every entry of an array."""
    return start + np.arange(int(np.prod(shape, dtype=int))).reshape(shape)


def gathered(shape: tuple[int, ...], indices: np.ndarray, numbers: Any, sizes: Any) -> np.ndarray:
    """Of `gather`: the flat position in the operand of every entry of the result, indices clamped as XLA does.

    `indices` are (*batch, k); `numbers` are the dimension numbers of the primitive and `sizes` those of its slices.
    """
    batch = indices.shape[:-1]
    strides = np.array([int(np.prod(shape[axis + 1 :], dtype=int)) for axis in range(len(shape))], int)
    first = np.zeros(batch, int)
    for column, axis in enumerate(numbers.start_index_map):
        first += np.clip(indices[..., column].astype(int), 0, shape[axis] - sizes[axis]) * strides[axis]
    for axis, along in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        counter = np.arange(shape[axis]).reshape([-1 if i == along else 1 for i in range(len(batch))])
        first += counter * strides[axis]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    inside = np.zeros([sizes[axis] for axis in kept], int)
    for place, axis in enumerate(kept):
        inside += np.arange(sizes[axis]).reshape([-1 if i == place else 1 for i in range(len(kept))]) * strides[axis]
    found = first.reshape(*batch, *(1,) * len(kept)) + inside
    order, rows, windows = [], iter(range(len(batch))), iter(range(len(batch), found.ndim))
    for axis in range(found.ndim):
        order.append(next(windows if axis in numbers.offset_dims else rows))
    return found.transpose(order)


def sliced(shape: tuple[int, ...], starts: list[np.ndarray], sizes: Any) -> np.ndarray:
    """Of `dynamic_slice`: as `gathered`, for starts that are scalars or (steps,) each, which then lead."""
    found = flat_positions(tuple(sizes)) * 0
    steps = max((np.size(start) for start in starts if np.ndim(start)), default=None)
    if steps is not None:
        found = np.zeros((steps, *sizes), int)
    for axis, start in enumerate(starts):
        stride = int(np.prod(shape[axis + 1 :], dtype=int))
        first = np.clip(np.asarray(start, int), 0, shape[axis] - sizes[axis])
        inside = np.arange(sizes[axis]).reshape([-1 if i == axis else 1 for i in range(len(sizes))])
        found = found + (first.reshape(-1, *(1,) * len(sizes)) if np.ndim(first) else first) * stride + inside * stride
    return found


def scatter_sizes(eqn: Any) -> dict[int, int]:
    """Axis of a scatter's operand -> entries of it that one update covers, for the axes that its indices give."""
    numbers, operand, updates = eqn.params["dimension_numbers"], eqn.invars[0].aval, eqn.invars[2].aval
    gone = {*numbers.inserted_window_dims, *getattr(numbers, "operand_batching_dims", ())}
    kept = [axis for axis in range(len(operand.shape)) if axis not in gone]
    window = dict(zip(kept, (updates.shape[axis] for axis in numbers.update_window_dims), strict=True))
    return {axis: window.get(axis, 1) for axis in numbers.scatter_dims_to_operand_dims}
