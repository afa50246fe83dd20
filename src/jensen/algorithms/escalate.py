"""Beyond the Gaussian: which richer family a posterior seems to need, and whether it was worth it."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen.algorithms import flexible
from jensen.algorithms.explore import Survey
from jensen.core import Progress
from jensen.families import AbstractGaussian, FullRank
from jensen.math import linalg
from jensen.math.precision import working
from jensen.models import Target

GAP = 0.2
"""Nats by which the importance-weighted bound must lie above the bound for a richer family to be tried."""
SHARE = 0.005
"""Evidence in other modes from which on a mixture over the modes is tried."""
DRAWS = 2048
LARGEST = 50
"""Unconstrained coordinates up to which richer families are tried."""


@dataclass(frozen=True)
class Measured:
    """A family with its bound, standard error and the gap to its own importance-weighted bound, in nats."""

    name: str
    q: Any
    bound: float
    error: float
    gap: float
    converged: bool = True
    covers_modes: bool = False

    def row(self, kept: bool) -> dict[str, Any]:
        """A line of `Outcome.stages`."""
        return {"family": self.name, "elbo": self.bound, "se": self.error, "kept": kept}


def measure(target: Target, name: str, q: Any, seed: int, converged: bool = True, covers: bool = False) -> Measured:
    """The bound on fresh draws."""
    if isinstance(q, AbstractGaussian):
        noise = np.random.default_rng([seed, 31]).normal(size=(DRAWS, q.noise_dim))
        points = q.host_transform(noise)
        log_q = q.host_log_prob(points)
    else:
        with working(target.precision):
            points = flexible.draws(q, DRAWS, seed + 31)
            log_q = flexible.log_probs(q, points)
    weights = target.value(points) - log_q
    if not np.isfinite(weights).all():
        return Measured(name, q, -np.inf, np.inf, np.inf, converged, covers)
    top = weights.max()
    weighted = float(top + np.log(np.mean(np.exp(weights - top))))
    bound = float(weights.mean())
    return Measured(name, q, bound, float(weights.std() / np.sqrt(DRAWS)), weighted - bound, converged, covers)


def escalate(
    target: Target, gaussian: AbstractGaussian, found: Survey, seed: int
) -> Generator[Progress, None, tuple[Measured | None, list[dict[str, Any]]]]:
    """(a richer family whose bound is really higher, or `None`; what was tried).

    Several modes with evidence of their own ask for a mixture over them; one mode with a gap asks for a flow, and where
    that leaves a gap for a mixture around it. The best is kept only if it gains more than twice the error of the
    difference.
    """
    first = measure(target, "Gaussian", gaussian, seed)
    proper = [mode for mode in found.modes if mode.regular]
    several = len(proper) > 1 and found.share_elsewhere > SHARE
    if target.heavy or target.dim > LARGEST or not (several or first.gap > GAP):
        return None, []
    start = gaussian if isinstance(gaussian, FullRank) else FullRank.from_factor(gaussian.loc, gaussian.factor())
    tried = [first]
    if several:
        logs = np.array([mode.value + linalg.log_det_factor(mode.factor) for mode in proper])
        mixture = flexible.mixture_from([mode.gaussian() for mode in proper], logs, len(proper), seed)
        fit = yield from flexible.ascend(target, mixture, start, seed, phase="mixture")
        tried.append(measure(target, f"mixture over {len(proper)} modes", fit.q, seed, fit.converged, True))
    else:
        fit = yield from flexible.ascend(target, flexible.flow_from(start, seed), start, seed, phase="flow")
        tried.append(measure(target, "flow", fit.q, seed, fit.converged))
    if max(tried, key=lambda one: one.bound).gap > GAP and not several:
        mixture = flexible.mixture_from([start], np.zeros(1), 8, seed)
        fit = yield from flexible.ascend(target, mixture, start, seed, phase="mixture")
        tried.append(measure(target, "mixture of 8", fit.q, seed, fit.converged))
    best = max(tried[1:], key=lambda one: one.bound)
    better = best.bound - first.bound > 2.0 * np.hypot(best.error, first.error)
    return (best if better else None), [one.row(better and one is best) for one in tried[1:]]
