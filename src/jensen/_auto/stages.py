"""Gaussians that the default has tried, compared by their bounds on common draws."""

from typing import Any

import numpy as np

from jensen._families import AbstractGaussian
from jensen._math.noise import symmetric_draws
from jensen._model import Target
from jensen._modes.resolution import resolved


def measured(target: Target, q: AbstractGaussian, seed: int) -> tuple[float, float, float]:
    """The bound on fresh mirrored draws, its standard error and the sd of its log weights, in nats."""
    stage = Stage("", q)
    compare(target, [stage], seed + 1)
    assert stage.log_weights is not None  # just filled in
    pairs = stage.log_weights.reshape(2, -1).mean(axis=0)
    return stage.bound, float(pairs.std() / np.sqrt(len(pairs))), float(stage.log_weights.std())


class Stage:
    """A family that was tried, with its log weights on common noise."""

    def __init__(self, name: str, q: AbstractGaussian, converged: bool = True):
        self.name, self.q, self.converged = name, q, converged
        self.log_weights: np.ndarray | None = None
        self.kept = False

    @property
    def bound(self) -> float:
        """The mean of the log weights, in nats."""
        return float(np.mean(self.log_weights)) if self.log_weights is not None else -np.inf

    def gap(self) -> float:
        """How far the importance-weighted bound of these draws is above their bound, in nats."""
        if self.log_weights is None:
            return np.nan
        return float(np.logaddexp.reduce(self.log_weights) - np.log(len(self.log_weights)) - self.bound)

    def row(self) -> dict[str, Any]:
        """As a fit's stages show it."""
        weights = self.log_weights if self.log_weights is not None else np.array([np.nan])
        return {
            "family": self.name,
            "elbo": self.bound,
            "se": float(weights.std() / np.sqrt(len(weights))) if np.isfinite(weights).all() else np.inf,
            "kept": self.kept,
        }


def compare(target: Target, stages: list[Stage], seed: int) -> float:
    """Fill in the log weights of every stage on one set of noise; the best bound."""
    count = max(64 if target.heavy else 256, 4 * target.dim)
    for stage in stages:
        if stage.log_weights is None:
            noise = symmetric_draws(count, stage.q.noise_dim, seed + 104729)
            points = stage.q.host_transform(noise)
            values = target.value(points)
            stage.log_weights = values - stage.q.host_log_prob(points)
            if not resolved(target, stage.q.host_log_prob, points, values):
                stage.log_weights = np.full(count, -np.inf)
    return max(stage.bound for stage in stages)


def choose(stages: list[Stage]) -> int:
    """The last stage that beats the best before it: by any amount within one family, significantly by a richer one.

    The draws are mirrored pairs, so the error of a difference is that of its pair averages.
    """
    best = 0
    for index, stage in enumerate(stages[1:], start=1):
        own, leading = stage.log_weights, stages[best].log_weights
        if leading is None or not np.isfinite(stages[best].bound):
            best = index
            continue
        assert own is not None  # filled in by `compare`
        if not np.isfinite(stage.bound):
            continue
        gain = own - leading
        pairs = gain.reshape(2, -1).mean(axis=0)
        error = 0.0 if type(stage.q) is type(stages[best].q) else 2.0 * pairs.std() / np.sqrt(len(pairs))
        if gain.mean() > error:
            best = index
    stages[best].kept = True
    return best
