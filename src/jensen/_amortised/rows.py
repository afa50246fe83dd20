"""An amortised fit judged row by row: weights, moments, and what the encoder gives away against single rows' optima."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from jensen._amortised.ascent.evaluate import Evaluator, shared_draws
from jensen._amortised.ascent.refine import refined
from jensen._amortised.family import Amortised, RowFactors
from jensen._base.typing import leaf
from jensen._families import AbstractGaussian
from jensen._math.precision import working
from jensen._verdict.importance import even, smooth, weighted_moments

ROWS, DRAWS = 128, 512
"""Rows looked at closely, and draws for each."""
USED = 0.01
"""Share of the variance of a coordinate that its means make up, from which on it says something of its row."""


@dataclass(frozen=True)
class RowStatistics:
    """What a sample of rows says.

    Attributes:
        number: rows looked at. heavy: share of them with k̂ above 0.7 and uneven weights. khat: their 95 % quantile.
        ess: the median effective share of draws. mean, ratio: root mean square difference of q's means from corrected
            ones in sd, and of log sds as a factor, both less the noise of the correction.
        gap, gap_se: the amortisation gap, nats a row: bound of refined factors less that of the encoder's.
        finite: share of draws with a finite density.
        active, dim: coordinates whose means vary from row to row, and all of them.
    """

    number: int
    heavy: float
    khat: float
    ess: float
    mean: float
    ratio: float
    gap: float
    gap_se: float
    finite: float
    active: int
    dim: int

    @property
    def collapsed(self) -> bool:
        """Whether every row gets the same answer."""
        return self.dim > 0 and self.active == 0 and self.number > 1


def amortisation_gap(
    evaluator: Evaluator, q: Amortised, parameters: Mapping[str, Any], rows: Mapping[str, np.ndarray], seed: int
) -> tuple[float, float]:
    """(mean over rows of L_n at the row's own optimum less L_n at the encoder's answer, its standard error), in nats.

    Cremer, Li and Duvenaud (2018), equation 5; on common draws, with the sampling of rows in the error.
    """
    better = refined(evaluator, q, parameters, rows, seed)
    shared = shared_draws(q, DRAWS // 2, seed)
    own = evaluator.weigh(q, parameters, rows, shared, seed + 1).log_weights
    free = evaluator.weigh(q, parameters, rows, shared, seed + 1, raw=better).log_weights
    gain = (free - own).mean(axis=0)
    return float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))


def looked_at(
    evaluator: Evaluator, q: Amortised, parameters: Mapping[str, Any], rows: Mapping[str, np.ndarray], seed: int
) -> RowStatistics:
    """The statistics of these rows."""
    found = evaluator.weigh(q, parameters, rows, shared_draws(q, DRAWS, seed), seed)
    logs = found.log_weights
    with working(evaluator.target.precision):
        layout = evaluator.target.model(logs.shape[1]).layout
        factors = RowFactors.of(layout, q.shape, leaf(evaluator.encoded(q, parameters, rows)))
        loc, sd = np.asarray(factors.loc, float), np.asarray(factors.sds(), float)
    khats, effective, means, spreads, mean_errors, spread_errors = [], [], [], [], [], []
    for n in range(logs.shape[1]):
        weights, khat = smooth(logs[:, n])
        size = 1.0 / np.sum(weights**2) if weights.sum() > 0 else 0.0
        khats.append(0.0 if even(logs[:, n]) else khat)
        effective.append(size / len(weights))
        if size < 10 or not loc.shape[1]:
            continue
        mean, spread, error = weighted_moments(np.asarray(found.point[:, n], float), weights)
        spread = np.maximum(spread, 1e-300)
        means.append((loc[n] - mean) / spread)
        mean_errors.append(error / spread)
        spreads.append(np.log(sd[n] / spread))
        spread_errors.append(np.full(len(spread), np.sqrt(0.5 / size)))
    gap, gap_se = amortisation_gap(evaluator, q, parameters, rows, seed)
    return RowStatistics(
        logs.shape[1],
        float((np.array(khats) > 0.7).mean()),
        float(np.quantile(khats, 0.95)),
        float(np.median(effective)),
        _beyond(means, mean_errors),
        float(np.exp(_beyond(spreads, spread_errors))),
        gap,
        gap_se,
        float(np.isfinite(logs).mean()),
        int((loc.var(axis=0) > USED * (loc.var(axis=0) + (sd**2).mean(axis=0))).sum()),
        loc.shape[1],
    )


def _beyond(values: list[np.ndarray], errors: list[np.ndarray]) -> float:
    """The root mean square of values less that of their errors."""
    if not values:
        return 0.0
    return float(np.sqrt(max(np.mean(np.square(values)) - np.mean(np.square(errors)), 0.0)))


@dataclass(frozen=True)
class SharedMoments:
    """What rows share, under q against the weighted draws: worst distance of means (sd) and ratio of sds, limits."""

    mean: float
    reach: float
    ratio: float
    stretch: float


def shared_differences(q: AbstractGaussian, draws: np.ndarray, weights: np.ndarray) -> SharedMoments:
    """Compare q's moments with those of draws (draws, dim) under weights that hold the rows weighed out."""
    mean, sd, error = weighted_moments(draws, weights)
    sd = np.maximum(sd, 1e-300)
    size = 1.0 / np.sum(weights**2)
    ratio = q.scales() / sd
    worst = int(np.argmax(np.abs(np.log(ratio))))
    reach = float(np.clip(4.5 * np.max(error / sd), 0.1, 0.3))
    stretch = float(np.clip(1.0 + 4.5 / np.sqrt(2.0 * size), 1.1, 1.4))
    return SharedMoments(
        float(np.max(np.abs(np.asarray(q.loc, float) - mean) / sd)), reach, float(ratio[worst]), stretch
    )


def log_mean(logs: np.ndarray, axis: int = 0) -> np.ndarray:
    """Log of the mean of exp."""
    return special.logsumexp(np.where(np.isnan(logs), -np.inf, logs), axis=axis) - np.log(logs.shape[axis])
