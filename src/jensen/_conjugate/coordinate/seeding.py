"""Good starts: rows that are far from each other, in the model's own measure, as the seeds of components."""

import numpy as np

from jensen._conjugate.coordinate.ascent import State
from jensen._conjugate.coordinate.board import Board
from jensen._conjugate.coordinate.proposals import SPREAD

POOLS = 3
"""Candidates for each component, at most."""

DRAWS = 4
"""Sets of seeds that are drawn for a start; the one kept leaves the rows nearest to theirs."""


class Seeds:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007) by log densities instead of squared distances.

    A candidate is a component fitted to one row, with a tenth of its weight on all rows so that its factors know their
    scale and the prior weighs as it will; how near it is to another row is what its potentials say of that row. For
    Gaussians of one covariance this is Euclidean distance, for counts and categories the distance of their own family.
    Candidates are drawn by their distance from those before, as many at once as there are components (Bahmani et al.
    2012), and the seeds among them one by one, the best of a few.
    """

    def __init__(self, board: Board, base: State, rng: np.random.Generator):
        self.board = board
        entries, values = board.entries, board.values
        pooled = board.placed(np.full((entries, values), 1.0 / values), base)
        self.rows = np.zeros(0, int)
        self.scores = np.zeros((entries, 0))
        chance = None
        for _ in range(POOLS if pooled is not None else 0):
            rows = rng.choice(entries, values, replace=False, p=chance)
            probs = np.full((entries, values), SPREAD / values)
            probs[rows, np.arange(values)] += (1.0 - SPREAD) * entries / values
            placed = board.placed(probs, pooled or base)
            if placed is None:
                break
            self.rows = np.concatenate([self.rows, rows])
            self.scores = np.concatenate([self.scores, board.potentials(placed)], axis=1)
            gaps = self._gaps(self.scores.max(axis=1))
            chance = gaps / gaps.sum() if np.count_nonzero(gaps) >= values else None

    def _gaps(self, best: np.ndarray) -> np.ndarray:
        """How far rows are from their seed, in nats; what a candidate says of its own row counts as no distance."""
        own = self.scores[self.rows, np.arange(len(self.rows))]
        return np.maximum(np.median(own) - best, 0.0)

    def drawn(self, rng: np.random.Generator) -> np.ndarray | None:
        """Responsibilities that give each row to the nearest of K seeds; `None` where there are no candidates."""
        if len(self.rows) < self.board.values:
            return None
        draws = [self._greedy(rng) for _ in range(DRAWS)]
        chosen = max(draws, key=lambda some: float(self.scores[:, some].max(axis=1).sum()))
        nearest = np.argmax(self.scores[:, chosen], axis=1)
        return (nearest[:, None] == np.arange(self.board.values)) * 1.0

    def _greedy(self, rng: np.random.Generator) -> list[int]:
        """Candidates chosen one by one, each the best of a few that are drawn by their distance."""
        tries = 2 + int(np.log(self.board.values))
        chosen = [int(rng.integers(len(self.rows)))]
        best = self.scores[:, chosen[0]]
        while len(chosen) < self.board.values:
            gaps = self._gaps(best[self.rows])
            gaps[chosen] = 0.0
            left = np.count_nonzero(gaps)
            if left == 0:
                break
            some = rng.choice(len(self.rows), min(tries, left), replace=False, p=gaps / gaps.sum())
            after = np.maximum(best[:, None], self.scores[:, some])
            pick = int(np.argmax(after.sum(axis=0)))
            chosen.append(int(some[pick]))
            best = after[:, pick]
        return chosen
