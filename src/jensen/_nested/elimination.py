"""Latents that are independent given the rest are eliminated first; what they leave is factorised along a line.

A latent whose neighbours are few costs their outer product: the larger of two crossed plates, the leaves of nested
plates, the unstructured effects of a map. This repeats as long as what is left becomes much cheaper (minimum degree,
in sets; a parallel form of Tinney and Walker 1967).
"""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from scipy import sparse

from jensen._nested.line import Line
from jensen._nested.pattern import coloured

LITTLE, WORTH, HALF, SAVED, MOST, CLASSES = 1e5, 4.0, 1.5, 4e6, 4e7, 2
"""Multiplications of a factorisation that stays as it is; times as dear as with it must be one without an elimination,
or so many times where that saves as many multiplications as are worth compiling for (a short chain stays a line);
entries of all outer products at most; colours whose latents are tried."""
FEW = 8
"""Of latents that are eliminated together, those with few neighbours are padded where they are one in so many."""
ENTRY = 30.0
"""Multiplications in a dense factorisation that take as long as one entry of an outer product."""


class Stage(eqx.Module):
    """Latents with at most k neighbours each, none of them neighbours of each other.

    Attributes:
        own: (n,) the latents. near: (n, k) their neighbours, D for none. diagonal: (n,) and off: (n, k) slots of their
            entries. target: (n, k (k + 1) / 2) slots of those that their outer products change.
    """

    own: np.ndarray
    near: np.ndarray
    diagonal: np.ndarray
    off: np.ndarray
    target: np.ndarray


class Elimination(eqx.Module):
    """The order of D latents, and where the N entries of the lower triangle, filled in, are in a vector.

    Attributes:
        stages: what is eliminated first, in order. line: what is left.
        blocks: (2, G, b, b) slots of its blocks along and below the diagonal. diagonal: (D,) slots of the diagonal.
        stretch: (D,) where a latent is along the line of all latents, or of what is left if that has more blocks.
        stretches: how many of these there are; one where no line has several blocks.
        keys: (N,) sorted row D + column of every slot, row >= column. Slot N is a zero, N + 1 a one.
    """

    size: int = eqx.field(static=True)
    stretches: int = eqx.field(static=True)
    stages: tuple[Stage, ...]
    line: Line
    blocks: np.ndarray
    diagonal: np.ndarray
    stretch: np.ndarray
    keys: np.ndarray

    @property
    def work(self) -> float:
        """Multiplications, or what takes as long, of one factorisation."""
        return self.line.work + ENTRY * sum(one.target.size for one in self.stages)

    def slots(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Where the entries (row, column) are; where there is none, N."""
        return _slots(self.keys, self.size, row, column)


class _Rounds(NamedTuple):
    """What is eliminated, (latents, those that are left, what they see of these); patterns on the way; the line."""

    rounds: list[tuple[np.ndarray, np.ndarray, sparse.csr_matrix]]
    filled: list[np.ndarray]
    whole: Line
    line: Line

    @property
    def work(self) -> float:
        """Multiplications, or what takes as long, of one factorisation."""
        return self.line.work + ENTRY * sum(_outer(near) for _, _, near in self.rounds)


def _outer(near: sparse.csr_matrix) -> float:
    """Entries of the outer products of what is seen."""
    return float((np.diff(near.indptr).astype(float) ** 2).sum()) / 2.0


def factorising(found: sparse.csr_matrix) -> float:
    """Multiplications, or what takes as long, of factorising a matrix of this pattern."""
    return _rounds(sparse.csr_matrix(found, dtype=bool)).work


def _rounds(graph: Any) -> _Rounds:
    size = graph.shape[0]
    left = np.arange(size)
    whole = line = Line.of(graph, left, size)
    rounds: list[tuple[np.ndarray, np.ndarray, sparse.csr_matrix]] = []
    filled = [_keys(graph, left, size)]
    while len(left) > 1 and line.work > LITTLE:
        best = min((_without(graph, left, size, one) for one in _independent(graph)), key=lambda one: one.work)
        if not (WORTH * best.work < line.work or (HALF * best.work < line.work and line.work - best.work > SAVED)):
            break
        rest = np.delete(left, best.chosen)
        rounds.append((left[best.chosen], rest, best.between))
        left, graph, line = rest, best.graph, best.line
        filled.append(_keys(graph, left, size))
    return _Rounds(rounds, filled, whole, line)


def eliminated(found: sparse.csr_matrix) -> Elimination:
    """The order for a symmetric pattern (D, D) with a full diagonal."""
    graph: Any = sparse.csr_matrix(found, dtype=bool)
    size = graph.shape[0]
    rounds, filled, whole, line = _rounds(graph)
    keys = np.unique(np.concatenate(filled))
    stages = tuple(stage for own, rest, near in rounds for stage in _stages(own, rest, near, keys, size))
    row, column = line.pairs()
    blocks = _slots(keys, size, row, column)
    blocks[0][(row[0] == size) & (np.eye(line.width, dtype=bool))] = len(keys) + 1
    own = np.arange(size)
    along, before = (whole, ()) if whole.blocks >= line.blocks else (line, stages)
    stretch = _in_blocks(before, along)
    return Elimination(size, along.blocks, stages, line, blocks, _slots(keys, size, own, own), stretch, keys)


def _in_blocks(stages: tuple[Stage, ...], line: Line) -> np.ndarray:
    """The block that every latent is in, or, if it is eliminated, the last that it sees; those that see none spread."""
    found = np.full(line.size + 1, -1)
    found[line.latent] = np.repeat(np.arange(line.blocks), line.width)
    found[-1] = -1
    for stage in reversed(stages):
        found[stage.own] = found[stage.near].max(axis=1, initial=-1)
    alone = np.flatnonzero(found[:-1] < 0)
    found[alone] = np.arange(len(alone)) * line.blocks // max(len(alone), 1)
    return found[:-1]


class _Step(NamedTuple):
    """Latents that are eliminated, the pattern (n, R) of what they see, what is left, as a line, and the work."""

    chosen: np.ndarray
    between: sparse.csr_matrix
    graph: sparse.csr_matrix
    line: Line
    work: float


def _without(graph: sparse.csr_matrix, left: np.ndarray, size: int, chosen: np.ndarray) -> _Step:
    rest = np.delete(np.arange(len(left)), chosen)
    between = sparse.csr_matrix(graph[chosen][:, rest])
    counts: Any = between.astype(np.int32)
    fill: Any = graph[rest][:, rest].astype(np.int32) + counts.T @ counts
    after = sparse.csr_matrix(fill.astype(bool))
    line = Line.of(after, left[rest], size)
    return _Step(chosen, between, after, line, line.work + ENTRY * _outer(between))


def _independent(graph: sparse.csr_matrix) -> list[np.ndarray]:
    """Large sets of latents that are no neighbours of each other.

    Those with the fewest neighbours, all by their number, and those that begin with one colour, such as a plate's.
    """
    degree = np.diff(graph.indptr) - 1
    by_degree = np.argsort(degree, kind="stable")
    colours = coloured(graph)
    common = np.argsort(-np.bincount(colours), kind="stable")[:CLASSES]
    few = by_degree[degree[by_degree] <= 2 * degree.min()]
    orders = [few, by_degree, *(by_degree[np.argsort(colours[by_degree] != one, kind="stable")] for one in common)]
    return [chosen for chosen in (_taken(graph, order, degree) for order in orders) if len(chosen)]


def _taken(graph: sparse.csr_matrix, order: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """Those that none before them sees, as long as the outer products are not too large; not all."""
    free = np.ones(len(degree), bool)
    chosen, entries = [], 0
    for one in order:
        if free[one]:
            entries += int(degree[one]) ** 2
            if entries > MOST or len(chosen) == len(degree) - 1:
                break
            chosen.append(one)
            free[graph.indices[graph.indptr[one] : graph.indptr[one + 1]]] = False
    return np.sort(np.array(chosen, int))


def _keys(graph: sparse.csr_matrix, own: np.ndarray, size: int) -> np.ndarray:
    ends: Any = graph.tocoo()
    row, column = own[ends.row].astype(np.int64), own[ends.col].astype(np.int64)
    return (row * size + column)[row >= column]


def _slots(keys: np.ndarray, size: int, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    low, high = np.minimum(row, column).astype(np.int64), np.maximum(row, column).astype(np.int64)
    wanted = high * size + low
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((keys[at] == wanted) & (high < size), at, len(keys)).astype(np.int32)


def _stages(own: np.ndarray, rest: np.ndarray, near: sparse.csr_matrix, keys: np.ndarray, size: int) -> list[Stage]:
    """Latents in parts of which the neighbours are about as many, so that little is padded."""
    degree = np.diff(near.indptr)
    part = np.ceil(np.log2(np.maximum(degree, 1))).astype(int)
    for one in range(int(part.max(initial=0))):
        if FEW * np.sum(part == one) < np.sum(part == one + 1):
            part[part == one] += 1
    found = []
    for which in np.unique(part):
        rows = np.flatnonzero(part == which)
        table = np.full((len(rows), int(degree[rows].max(initial=0))), size)
        some: Any = near[rows]
        table[np.arange(table.shape[1]) < degree[rows][:, None]] = rest[some.indices]
        one = own[rows]
        a, b = np.tril_indices(table.shape[1])
        target = _slots(keys, size, table[:, a], table[:, b])
        found.append(Stage(one, table, _slots(keys, size, one, one), _slots(keys, size, one[:, None], table), target))
    return found
