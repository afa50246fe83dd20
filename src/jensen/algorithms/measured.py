"""Families on common terms: the bound on fresh draws, its error, and what importance weights could still mend."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen.algorithms import flexible
from jensen.families import AbstractGaussian
from jensen.math.precision import working
from jensen.models import Target

DRAWS, FEW, EFFORT = 2048, 256, 2e7
"""Draws by which families are compared, and at least; data values read for them where that is less."""


@dataclass(frozen=True)
class Measured:
    """A family with its bound, standard error and the gap to its own importance-weighted bound, in nats.

    `effective` is the part of the draws that the weights leave effective; `missed` what the verdict hears about modes.
    """

    name: str
    q: Any
    bound: float
    error: float
    gap: float
    effective: float = 0.0
    converged: bool = True
    missed: dict[str, float] | None = None

    def row(self, kept: bool) -> dict[str, Any]:
        """A line of `Outcome.stages`."""
        return {"family": self.name, "elbo": self.bound, "se": self.error, "kept": kept}

    def beats(self, other: "Measured") -> bool:
        """Whether its bound is higher by more than twice the error of the difference."""
        if not np.isfinite(other.bound):
            return bool(np.isfinite(self.bound))
        return bool(self.bound - other.bound > 2.0 * np.hypot(self.error, other.error))


def measure(
    target: Target, name: str, q: Any, seed: int, converged: bool = True, missed: dict[str, float] | None = None
) -> Measured:
    """The bound on fresh draws; -∞ where a draw has no finite density under p or under q."""
    count = int(np.clip(EFFORT / target.elements, FEW, DRAWS))
    if isinstance(q, AbstractGaussian):
        noise = np.random.default_rng([seed, 31]).normal(size=(count, q.noise_dim))
        points = q.host_transform(noise)
        log_q = q.host_log_prob(points)
    else:
        with working(target.precision):
            points, log_q = flexible.scored_draws(q, count, seed + 31)
    weights = target.value(points) - log_q
    if not np.isfinite(weights).all():
        return Measured(name, q, -np.inf, np.inf, np.inf, 0.0, converged, missed)
    top = weights.max()
    ratios = np.exp(weights - top)
    bound, gap = float(weights.mean()), float(top + np.log(ratios.mean()) - weights.mean())
    effective = float(ratios.mean() ** 2 / np.mean(ratios**2))
    return Measured(name, q, bound, float(weights.std() / np.sqrt(count)), gap, effective, converged, missed)
