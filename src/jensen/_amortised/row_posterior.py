"""The posterior of rows, those of the fit or new ones, as the encoder gives it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jensen._amortised.ascent.evaluate import Evaluator, Weighed, shared_draws
from jensen._amortised.family import Amortised, RowFactors
from jensen._amortised.rows import log_mean
from jensen._base.arguments import count_of, seed_of
from jensen._base.typing import leaf
from jensen._math.precision import working

DRAWS = 512
"""Draws behind moments, bounds and log evidences."""


@dataclass(frozen=True, eq=False)
class RowPosterior:
    """q(z_n | x_n) of some rows, the model and what rows share being as they were fitted.

    Attributes:
        size: rows. refined: whether each row's factor was raised from where the encoder put it.
    """

    evaluator: Evaluator = field(repr=False)
    q: Amortised = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    data: Mapping[str, np.ndarray] = field(repr=False)
    raw: np.ndarray = field(repr=False)
    refined: bool
    seed: int = field(repr=False)

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.raw)

    @functools.cached_property
    def factors(self) -> RowFactors:
        """The factors: Gaussians over unconstrained coordinates, and those of discrete latents."""
        with working(self.evaluator.target.precision):
            layout = self.evaluator.target.model(self.size).layout
            return RowFactors.of(layout, self.q.shape, leaf(self.raw))

    @functools.cached_property
    def _weighed(self) -> Weighed:
        return self._draw(DRAWS, self.seed)

    def _draw(self, count: int, seed: int) -> Weighed:
        shared = shared_draws(self.q, count, seed)
        return self.evaluator.weigh(self.q, self.parameters, self.data, shared, seed, self.raw)

    @property
    def loc(self) -> np.ndarray:
        """Means of the unconstrained coordinates, (rows, dim)."""
        return np.asarray(self.factors.loc, float)

    @property
    def scale(self) -> np.ndarray:
        """Their sds, (rows, dim)."""
        with working(self.evaluator.target.precision):
            return np.asarray(self.factors.sds(), float)

    def mean(self) -> dict[str, np.ndarray]:
        """E[z] by site, on the supports, from draws (a code's: of its number)."""
        return {name: values.mean(axis=0) for name, values in self._weighed.values.items()}

    def sd(self) -> dict[str, np.ndarray]:
        """Standard deviations by site, on the supports, from draws."""
        return {name: values.std(axis=0) for name, values in self._weighed.values.items()}

    def probabilities(self) -> dict[str, np.ndarray]:
        """q of every value of the discrete latents with a small support: site -> (*site, values)."""
        with working(self.evaluator.target.precision):
            known = {n: f for n, f in self.factors.codes.items() if f.support() is not None}
            return {name: np.exp(np.asarray(factor.log_masses(), float)) for name, factor in known.items()}

    def elbo(self) -> np.ndarray:
        """The bound on log p(x_n) of each row given what rows share, (rows,), in nats."""
        return self._weighed.log_weights.mean(axis=0)

    def log_evidence(self, num_draws: int = DRAWS) -> np.ndarray:
        """log p(x_n) of each row by importance weighting, (rows,), in nats: a lower bound on average."""
        num_draws = count_of(num_draws, "num_draws")
        logs = self._weighed if num_draws == DRAWS else self._draw(num_draws, self.seed + 1)
        return log_mean(logs.log_weights)

    def sample(self, num_draws: int = 1000, *, seed: int = 0, corrected: bool = False) -> dict[str, np.ndarray]:
        """Draws of the rows' latents, site -> (num_draws, ...); `corrected` resamples each row by its weights."""
        num_draws, seed = count_of(num_draws, "num_draws"), seed_of(seed)
        found = self._draw(num_draws if not corrected else max(num_draws, DRAWS), self.seed + 7 * seed + 3)
        if not corrected:
            return found.values
        chosen = resampled_rows(found.log_weights, num_draws, seed)
        return picked(found.values, chosen, row_axes(self.evaluator))


def row_axes(evaluator: Evaluator) -> dict[str, int]:
    """Site -> the axis of its rows."""
    layout = evaluator.model.layout
    return {site.name: site.axis for site in (*layout.continuous, *layout.codes)}


def resampled_rows(log_weights: np.ndarray, count: int, seed: int) -> np.ndarray:
    """For every row, draws in proportion to its own truncated weights, (count, rows), in random order.

    A weight counts at most √S times the average (Ionides 2008), so that no single draw fills a row.
    """
    rng = np.random.default_rng([seed, 23])
    logs = np.where(np.isfinite(log_weights), log_weights, -np.inf)
    top = logs.max(axis=0)
    weights = np.exp(logs - np.where(np.isfinite(top), top, 0.0))
    weights[:, ~np.isfinite(top)] = 1.0
    weights = np.minimum(weights, np.sqrt(len(weights)) * weights.mean(axis=0))
    edges = np.cumsum(weights / weights.sum(axis=0), axis=0)
    positions = (rng.uniform(size=edges.shape[1]) + np.arange(count)[:, None]) / count * (1 - 1e-12)
    out = np.stack([np.searchsorted(edge, at) for edge, at in zip(edges.T, positions.T, strict=True)], axis=1)
    return rng.permuted(np.minimum(out, len(weights) - 1), axis=0)


def picked(values: Mapping[str, np.ndarray], chosen: np.ndarray, axes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The draws `chosen` (count, rows) of every row, site -> (count, ...)."""
    rows, found = np.arange(chosen.shape[1]), {}
    for name, value in values.items():
        moved = np.moveaxis(value, axes[name] + 1, 1)
        found[name] = np.moveaxis(moved[chosen, rows], 1, axes[name] + 1)
    return found
