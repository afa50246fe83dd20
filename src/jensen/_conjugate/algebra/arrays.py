"""Arrays that are either concrete (NumPy, folded at once) or traced (JAX, part of the compiled preparation)."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np


def is_concrete(array: Any) -> bool:
    """Whether the value is known now, so that structure (equality, zeros, ranges) can be read off it."""
    return isinstance(array, (np.ndarray, np.generic))


def namespace(*arrays: Any) -> ModuleType:
    """NumPy when every array is concrete, JAX's NumPy otherwise."""
    return np if all(is_concrete(a) for a in arrays) else jnp


def same_array(left: Any, right: Any) -> bool:
    """Whether two arrays are known to hold the same numbers; two traced arrays are equal only as one object."""
    if left is right:
        return True
    return is_concrete(left) and is_concrete(right) and np.array_equal(left, right)


def contract(arrays: Sequence[Any], axes: Sequence[Sequence[Any]], out: Sequence[Any]) -> Any:
    """Einsum over hashable axis labels: Σ over every label that is not in `out`.

    An axis may repeat within one operand, which takes the diagonal.
    """
    numbers: dict[Any, int] = {}
    operands: list[Any] = []
    for array, labels in zip(arrays, axes, strict=True):
        operands += [array, [numbers.setdefault(label, len(numbers)) for label in labels]]
    target = [numbers[label] for label in out]
    xp = namespace(*arrays)
    if xp is np:
        return np.einsum(*operands, target)
    return jnp.einsum(*operands, target, optimize="optimal" if 2 < len(arrays) < 8 else "auto")


def compact(array: np.ndarray) -> np.ndarray:
    """The array with a size-1 axis wherever it is constant along that axis."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array
