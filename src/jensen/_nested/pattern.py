"""What sees which latents, found from products with few vectors.

Groups of latents are tested together: a row's derivative along a random v on a group that it does not see is zero.
Groups that no row sees two of have one colour and share a product (Curtis, Powell and Reid 1974); each is split in
parts, and the parts of one colour are tested at once, down to single latents. A chain of 20,000 takes about a hundred
products, and no matrix is formed.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import sparse

Products: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Directions (m, D) -> sizes of the R rows' derivatives along them at some generic points, (m, R)."""

PARTS, MOST, NOTHING = 4, 256, 1e-11
"""Parts that a group is split into; products of one level at most; a share of its largest that counts as zero."""


class Seen(NamedTuple):
    """(R, D) which row sees which latent, and (R,) rows that see too many to be told, and have no entries."""

    pattern: sparse.csr_matrix
    wide: np.ndarray


def pattern(products: Products, size: int, seed: int = 0) -> sparse.csr_matrix | None:
    """The (D, D) pattern of a symmetric matrix; `None` where it is as well called dense."""
    found = seen(products, size, np.array([0, size]), size, seed)
    if found is None:
        return None
    both: Any = found.pattern + found.pattern.T + sparse.diags(np.ones(size))
    return sparse.csr_matrix(both.astype(bool))


def seen(products: Products, rows: int, bounds: np.ndarray, most: int, seed: int = 0) -> Seen | None:
    """What each of the rows sees, up to `most` latents; `bounds` (G + 1,) are groups to begin with, such as sites.

    `None` where products are not finite, or more would be needed than are worth it.
    """
    rng = np.random.default_rng(seed)
    size = int(bounds[-1])
    known = sparse.csr_matrix(np.ones((rows, len(bounds) - 1), bool))
    largest, wide = np.zeros(rows), np.zeros(rows, bool)
    while True:
        colours = colouring(known)
        parts = [np.linspace(a, b, min(PARTS, b - a) + 1).astype(int) for a, b in pairwise(bounds)]
        count = int(colours.max(initial=-1)) + 1
        if count * PARTS > MOST:
            return None
        sizes = products(_directions(colours, parts, size, rng))
        if not np.isfinite(sizes).all():
            return None
        largest = np.maximum(largest, sizes.max(axis=0, initial=0.0))
        finer = np.cumsum([0, *(len(one) - 1 for one in parts)])
        found = []
        for colour in range(count):
            # the one group of this colour that each row sees
            own = np.flatnonzero(colours == colour)
            which = sparse.coo_matrix(known[:, own])
            for part in range(PARTS):
                hit = sizes[colour * PARTS + part][which.row] > NOTHING * largest[which.row]
                hit &= np.diff(finer)[own[which.col]] > part
                found.append((which.row[hit], finer[own[which.col[hit]]] + part))
        done = len(bounds) - 1 == size
        bounds = np.unique(np.concatenate(parts))
        row, column = np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])
        wide |= np.bincount(row, minlength=rows) > most
        kept = ~wide[row]
        ends = row[kept], column[kept]
        known = sparse.csr_matrix((np.ones(len(ends[0]), bool), ends), shape=(rows, len(bounds) - 1))
        if done or len(bounds) - 1 == size:
            return Seen(known, wide)


def _directions(colours: np.ndarray, parts: list[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """A random vector on the same part of all groups of one colour, colour by colour and part by part."""
    found = np.zeros((int(colours.max(initial=-1)) + 1, PARTS, size))
    for group, colour in enumerate(colours):
        for part, (begin, end) in enumerate(pairwise(parts[group])):
            found[colour, part, begin:end] = rng.uniform(0.5, 1.5, end - begin)
    return found.reshape(-1, size)


def colouring(known: sparse.csr_matrix) -> np.ndarray:
    """A colour for each column of (rows, groups), so that no row sees two groups of one colour."""
    counts: Any = sparse.csr_matrix(known, dtype=np.int32)
    return coloured(sparse.csr_matrix(counts.T @ counts))


def coloured(clash: Any) -> np.ndarray:
    """A colour for each of those that see each other, a symmetric pattern with a full diagonal or none."""
    colours = np.full(clash.shape[0], -1)
    for one in range(len(colours)):
        taken = set(colours[clash.indices[clash.indptr[one] : clash.indptr[one + 1]]].tolist())
        colours[one] = next(c for c in range(len(colours) + 1) if c not in taken)
    return colours
