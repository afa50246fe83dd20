"""Families on common terms: the bound on fresh draws, its error, and what importance weights could still mend."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._core import Certificate
from jensen._families import AbstractGaussian
from jensen._families.heavier import TAIL, student_log_prob
from jensen._math.precision import working
from jensen._model import Target
from jensen._modes.resolution import resolved

DRAWS, FEW, EFFORT, WORK = 2048, 256, 2e7, 1e9
"""Draws by which families are compared, and at least; data values read for them, or work, where that is less."""
ABOVE, STEADY, WILD = 3.0, 3.0, 5.0
"""Nats by which a bound may exceed the evidence that steady weights of another family see; sds of log weights."""
BLOCKS = 8
"""Blocks of all draws."""


@dataclass(frozen=True)
class Measured:
    """A family with its bound, standard error and the gap to the evidence as importance weights see it, in nats.

    `missed` is what the verdict hears about modes; `spread` the sd of the log weights of its own draws.
    """

    name: str
    q: Any
    bound: float
    error: float
    gap: float
    converged: bool = True
    missed: Certificate | None = None
    spread: float = 0.0

    def row(self, kept: bool) -> dict[str, Any]:
        """A line of `Outcome.stages`."""
        return {"family": self.name, "elbo": self.bound, "se": self.error, "kept": kept}

    def beats(self, other: "Measured") -> bool:
        """Whether its bound is higher by more than twice the error of the difference, and not contradicted."""
        if not np.isfinite(other.bound):
            return bool(np.isfinite(self.bound))
        higher = self.bound - other.bound > 2.0 * np.hypot(self.error, other.error)
        return bool(higher) and not self.contradicted(other.bound + other.gap, other.spread)

    def contradicted(self, evidence: float, spread: float) -> bool:
        """Whether the bound of wild weights lies above the evidence that steady weights (sd `spread`) see.

        By Markov's inequality honest weights w = p / q exceed the evidence by t nats in a share of at most e^-t of
        draws, so that a wild q far above is a matter of rounding, or of a q that has not been seen enough.
        """
        return bool(self.bound > evidence + ABOVE and self.spread > WILD and spread < STEADY)

    def covers(self, other: "Measured") -> bool:
        """Whether its bound is not lower and at most two thirds of the other's gap are left: more even weights."""
        return bool(self.bound > other.bound and self.gap < other.gap / 1.5)


def measure(
    target: Target, name: str, q: Any, seed: int, converged: bool = True, missed: Certificate | None = None
) -> Measured:
    """The bound on fresh draws; -∞ where a draw has no finite density under p or q, or none told by its numbers.

    The gap of a Gaussian is measured on as many draws of a Student-t of its location and scatter besides, weighted by
    p / (½ q + ½ t) (Veach and Guibas 1995): its own weights have tails that make a large gap look like a small one, or
    hang on a single draw. It is the median over blocks of draws.
    """
    count = int(np.clip(min(EFFORT / target.elements, WORK / target.work), FEW, DRAWS)) // BLOCKS * BLOCKS
    heavier = None
    if isinstance(q, AbstractGaussian):
        rng = np.random.default_rng([seed, 31])
        points = q.host_transform(rng.normal(size=(count, q.noise_dim)))
        log_q = q.host_log_prob(points)
        scale = np.sqrt(TAIL / rng.chisquare(TAIL, size=(count, 1)))
        loc = np.asarray(q.loc, float)
        heavier = loc + scale * (q.host_transform(rng.normal(size=(count, q.noise_dim))) - loc)
    else:
        with working(target.precision):
            points, log_q = q.host_scored(count, seed + 31)
    values = target.value(points)
    weights = values - log_q
    log_density = q.host_log_prob if heavier is not None else functools.partial(_log_probs, target, q)
    if not np.isfinite(weights).all() or not resolved(target, log_density, points, values):
        return Measured(name, q, -np.inf, np.inf, np.inf, converged, missed)
    bound, spread = float(weights.mean()), float(weights.std())
    if heavier is not None:
        both = np.concatenate([points, heavier])
        log_p = np.concatenate([weights + log_q, target.value(heavier)])
        log_both = np.logaddexp(q.host_log_prob(both), student_log_prob(q, both)) - np.log(2.0)
        weights = np.nan_to_num(log_p - log_both, nan=-np.inf, posinf=-np.inf)
    parts = weights.reshape(-1, BLOCKS)  # in each as many draws of either kind
    gap = float(np.median(np.logaddexp.reduce(parts, axis=0) - np.log(len(parts)))) - bound
    return Measured(name, q, bound, spread / np.sqrt(count), gap, converged, missed, spread)


def _log_probs(target: Target, q: Any, points: np.ndarray) -> np.ndarray:
    with working(target.precision):
        return q.host_log_prob(points)
