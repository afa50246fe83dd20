"""Symmetric products of one array with itself, kept as their upper triangle."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._conjugate.algebra.terms import Axis, Known


@dataclass(frozen=True, eq=False)
class Pair:
    """Σ_ij x_i x_j G_ij as one sum over i ≤ j: half the work where one array stands twice in a term.

    `position` is the axis of `known` that runs over i in one factor and over j in the other; `packed` labels the
    D(D + 1) / 2 products.
    """

    known: Known
    position: int
    first: Axis
    second: Axis
    packed: Axis

    def indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the upper triangle."""
        return np.triu_indices(self.first.size)


def find_pair(known: Sequence[Known], shared: set[Axis], inner: Sequence[Axis]) -> Pair | None:
    """The array that stands exactly twice, its maps differing in one axis that nothing else in the rows carries."""
    for left, right in itertools.combinations(known, 2):
        copies = [f for f in known if f.array == left.array]
        differing = [k for k, (a, b) in enumerate(zip(left.maps, right.maps, strict=False)) if a is not b]
        if left.array != right.array or len(copies) != 2 or len(differing) != 1:
            continue
        first, second = left.maps[differing[0]], right.maps[differing[0]]
        elsewhere = [*inner, *(axis for f in known if f not in copies for axis in f.maps)]
        if {first, second} <= shared and first not in elsewhere and second not in elsewhere:
            size = first.size * (first.size + 1) // 2
            return Pair(left, differing[0], first, second, Axis(size))
    return None


def packed(array: Array, out: Sequence[Axis], pair: Pair) -> Array:
    """G_ii, and G_ij + G_ji for i < j, on the last axis."""
    square = jnp.moveaxis(array, (out.index(pair.first), out.index(pair.second)), (-2, -1))
    first, second = pair.indices()
    return square[..., first, second] + jnp.where(first != second, square[..., second, first], 0.0)
