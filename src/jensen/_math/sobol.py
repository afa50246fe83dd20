"""Scrambled Sobol points, those of `scipy.stats.qmc.Sobol` to the bit, without the quarter of a second of its import.

Joe and Kuo (2008) gave the direction numbers, which SciPy keeps in a file; Matoušek (1998) the linear scrambling.
"""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import scipy

BITS, LARGEST = 30, 21_201
"""Binary digits of a coordinate, and coordinates at most."""
_FILE = Path(scipy.__file__).parent / "stats" / "_sobol_direction_numbers.npz"


def sobol(count: int, dim: int, seed: int) -> np.ndarray:
    """The first `count` points of [0, 1)^dim, (count, dim), scrambled at random and shifted."""
    if not _FILE.exists():  # where another version of SciPy keeps its numbers elsewhere
        from scipy.stats import qmc

        engine = qmc.Sobol(dim, scramble=True, bits=BITS, rng=np.random.default_rng(seed))
        return engine.random_base2(int(np.ceil(np.log2(max(count, 1)))))[:count]
    rng = np.random.default_rng(seed).spawn(1)[0]
    powers = 2 ** np.arange(BITS, dtype=np.uint32)
    shift = rng.integers(2, size=(dim, BITS), dtype=np.uint32) @ powers
    lower = np.tril(rng.integers(2, size=(dim, BITS, BITS), dtype=np.uint32))
    lower[:, np.arange(BITS), np.arange(BITS)] = 1
    known = _directions(min(LARGEST, 2 ** max(6, int(dim - 1).bit_length())))  # one coordinate's depend on no other's
    digits = (known[:dim, :, None] >> np.arange(BITS - 1, -1, -1, dtype=np.uint32)) & 1  # the first one first
    mixed = (digits.astype(float) @ lower.swapaxes(1, 2).astype(float)).astype(np.uint32) & 1
    columns = mixed @ powers[::-1]
    index = np.arange(count)
    gray = index ^ (index >> 1)
    points = np.broadcast_to(shift, (count, dim)).copy()
    for bit in range(max(1, int(count - 1).bit_length())):
        points[(gray >> bit) & 1 == 1] ^= columns[:, bit]
    return points / 2.0**BITS


@lru_cache(4)
def _directions(dim: int) -> np.ndarray:
    """Direction numbers, (dim, BITS): integers whose binary digits are columns of the generating matrices."""
    polynomials, first = _numbers()
    found = np.ones((dim, BITS), np.uint32)
    degrees = np.array([int(p).bit_length() - 1 for p in polynomials[:dim]])
    for degree in np.unique(degrees[1:]):
        rows = 1 + np.flatnonzero(degrees[1:] == degree)
        found[rows, :degree] = first[rows, :degree]
        for j in range(degree, BITS):
            new = found[rows, j - degree]
            for k in range(degree):
                used = (polynomials[rows] >> np.uint32(degree - 1 - k)) & 1
                new = new ^ used * (found[rows, j - k - 1] << np.uint32(k + 1))
            found[rows, j] = new
    return found << np.arange(BITS - 1, -1, -1, dtype=np.uint32)


@cache
def _numbers() -> tuple[np.ndarray, np.ndarray]:
    """(primitive polynomials, initial direction numbers) of every coordinate."""
    with np.load(_FILE) as kept:
        return kept["poly"].astype(np.uint32), kept["vinit"].astype(np.uint32)
