"""One look at all rows: their weights given what they share, and the importance draws that these make."""

from dataclasses import dataclass

import numpy as np

from jensen._amortised.rows import log_mean
from jensen._verdict.answer import Draws
from jensen._verdict.importance import Pool, even, smooth


@dataclass(frozen=True)
class Looked:
    """All rows weighed at some draws of what they share.

    Attributes:
        shared: (outer, dim). log_shared: log p(β) - log q(β) and what lies outside the plate, (outer,).
        rows: log Σ_n-parts: (outer, inner, rows) log weights.
        raw, corrected: one draw of every row for each outer draw, as drawn and resampled by weight; site -> values.
    """

    shared: np.ndarray
    log_shared: np.ndarray
    rows: np.ndarray
    raw: Draws
    corrected: Draws

    @property
    def log_weights(self) -> np.ndarray:
        """log of an unbiased estimate of p(x, β) / q(β) for every outer draw."""
        return self.log_shared + log_mean(self.rows, 1).sum(axis=1)


def pool_of(found: Looked) -> Pool:
    """First draws of q, then as many with every row resampled by its weights and weighed by what rows share."""
    logs, outer = found.log_weights, len(found.shared)
    rows = next(iter(found.raw.values())).shape[0] if found.raw else outer
    if outer == 1:  # nothing is shared: the rows' own weights are all there is
        totals = found.log_shared[0] + found.rows[0, :rows].sum(axis=1)
        weights, logs = np.full(rows, 1.0 / rows), np.repeat(logs, rows)
        khat, level, points = -1.0, True, np.zeros((2 * rows, 1))
    else:
        totals = found.log_shared + found.rows[:, 0].sum(axis=1)
        weights, khat = smooth(logs)
        level = even(logs)
        points = np.concatenate([np.zeros((2 * rows, 1)), np.tile(found.shared, (2, 1))], axis=1)
    zeros = np.zeros(rows)
    return Pool(
        points,
        np.concatenate([totals, logs]),
        np.zeros(2 * rows),
        np.concatenate([totals - logs, zeros]),
        np.concatenate([zeros, weights]),
        khat,
        khat,
        0.0,
        level,
        level,
    )
