"""Where a second derivative is not zero, found from its products with few vectors.

Groups of latents are tested together: coordinate i of H v is zero for a random v on a group that i does not see. Groups
that no coordinate sees two of have one colour and share a product (Curtis, Powell and Reid 1974); each is split in
parts, and the parts of one colour are tested at once, down to single latents. A chain of 20,000 takes about a hundred
products, and no matrix is formed.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

Products: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Directions (m, D) -> sizes of H v at some generic points, (m, D)."""

PARTS, MOST, NOTHING = 4, 256, 1e-11
"""Parts that a group is split into; products of one level at most; a share of its largest that counts as zero."""


def pattern(products: Products, size: int, seed: int = 0) -> sparse.csr_matrix | None:
    """The (D, D) pattern; `None` where coordinates see so many others that it is as well called dense."""
    rng = np.random.default_rng(seed)
    bounds = np.array([0, size])
    seen = sparse.csr_matrix(np.ones((size, 1), bool))
    largest = np.zeros(size)
    while len(bounds) - 1 < size:
        colours = colouring(seen)
        parts = [np.linspace(a, b, min(PARTS, b - a) + 1).astype(int) for a, b in pairwise(bounds)]
        if (colours.max() + 1) * PARTS > MOST:
            return None
        tests = [(c, k) for c in range(colours.max() + 1) for k in range(PARTS)]
        directions = np.zeros((len(tests), size))
        for test, (colour, part) in enumerate(tests):
            for group in np.flatnonzero(colours == colour):
                if part < len(parts[group]) - 1:
                    own = slice(parts[group][part], parts[group][part + 1])
                    directions[test, own] = rng.uniform(0.5, 1.5, own.stop - own.start)
        sizes = products(directions)
        if not np.isfinite(sizes).all():
            return None
        largest = np.maximum(largest, sizes.max(axis=0))
        new = np.cumsum([0, *(len(one) - 1 for one in parts)])
        rows, columns = [], []
        for colour in range(colours.max() + 1):
            # the one group of this colour that each coordinate sees
            own = np.flatnonzero(colours == colour)
            which = sparse.coo_matrix(seen[:, own])
            for part in range(PARTS):
                hit = sizes[colour * PARTS + part][which.row] > NOTHING * largest[which.row]
                group = own[which.col[hit]]
                rows.append(which.row[hit])
                columns.append(new[group] + part)
        rows, columns = np.concatenate(rows), np.concatenate(columns)
        bounds = np.unique(np.concatenate(parts))
        seen = sparse.csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(size, len(bounds) - 1))
    both: Any = seen + seen.T + sparse.diags(np.ones(size))
    return sparse.csr_matrix(both.astype(bool))


def colouring(seen: sparse.csr_matrix) -> np.ndarray:
    """A colour for each column of (coordinates, groups), so that no coordinate sees two groups of one colour."""
    counts: Any = sparse.csr_matrix(seen, dtype=np.int32)
    groups = counts.shape[1]
    clash = sparse.csr_matrix(counts.T @ counts)
    colours = np.full(groups, -1)
    for group in range(groups):
        taken = set(colours[clash.indices[clash.indptr[group] : clash.indptr[group + 1]]])
        colours[group] = next(c for c in range(groups + 1) if c not in taken)
    return colours
