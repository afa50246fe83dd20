"""Beyond the Gaussian: which richer family a posterior seems to need, and whether it was worth it."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen.algorithms import covering, flexible
from jensen.algorithms.explore import Survey
from jensen.core import Progress
from jensen.families import AbstractGaussian, FullRank
from jensen.math import linalg
from jensen.math.precision import working
from jensen.models import Target

GAP = 0.2
"""Nats by which the importance-weighted bound must lie above the bound for a richer family to be tried."""
LEFT = 0.05
"""Gap of a mixture from which on a flow is tried besides."""
SHARE = 0.005
"""Evidence in other modes from which on a mixture over the modes is tried."""
USABLE = 0.2
"""Part of the draws that importance weights leave effective, from which on weights alone will do."""
DRAWS = 2048
LARGEST = 50
"""Unconstrained coordinates up to which richer families are tried."""


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


def measure(
    target: Target, name: str, q: Any, seed: int, converged: bool = True, missed: dict[str, float] | None = None
) -> Measured:
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
        return Measured(name, q, -np.inf, np.inf, np.inf, 0.0, converged, missed)
    top = weights.max()
    ratios = np.exp(weights - top)
    bound, gap = float(weights.mean()), float(top + np.log(ratios.mean()) - weights.mean())
    effective = float(ratios.mean() ** 2 / np.mean(ratios**2))
    return Measured(name, q, bound, float(weights.std() / np.sqrt(DRAWS)), gap, effective, converged, missed)


def escalate(
    target: Target, gaussian: AbstractGaussian, found: Survey, seed: int, eager: bool
) -> Generator[Progress, None, tuple[Measured | None, list[dict[str, Any]]]]:
    """(a richer family whose bound is really higher, or `None`; what was tried).

    Several modes with evidence of their own ask for a mixture over them; one mode with a gap asks for a mixture around
    it, and where that leaves a gap for a flow, which takes longer. Unless `eager`, a gap that importance weights mend
    asks for nothing. The best is kept only if it gains more than twice the error of the difference.
    """
    if target.heavy or target.dim > LARGEST:
        return None, []
    first = measure(target, "Gaussian", gaussian, seed)
    several = sum(mode.regular for mode in found.modes) > 1 and found.share_elsewhere > SHARE
    gap = first.gap > GAP and (eager or first.effective < USABLE)
    if not (several or gap):
        return None, []
    start = (
        gaussian
        if isinstance(gaussian, FullRank)
        else FullRank.from_factor(np.asarray(gaussian.loc, float), gaussian.factor())
    )
    modes, unseen = covering.all_modes(target, found, seed) if several else ((), 0.0)
    tried = [first]

    def attempt(name: str, q: Any, phase: str) -> Generator[Progress, None, None]:
        fit = yield from flexible.ascend(target, q, start, seed, phase=phase)
        missed = {"unseen_modes": unseen, **covering.uncovered(target, fit.q, modes, seed)} if several else None
        tried.append(measure(target, name, fit.q, seed, fit.converged, missed))

    if several:
        logs = np.array([mode.value + linalg.log_det_factor(mode.factor) for mode in modes])
        parts = [mode.gaussian() for mode in modes]
        for count in (len(modes), 2 * len(modes)):
            name = f"mixture over {len(modes)} modes" if count == len(modes) else f"mixture of {count}"
            yield from attempt(name, flexible.mixture_from(parts, logs, count, seed), "mixture")
            if tried[-1].gap < GAP:
                break
    else:
        yield from attempt("mixture of 8", flexible.mixture_from([start], np.zeros(1), 8, seed), "mixture")
        if max(tried, key=lambda one: one.bound).gap > LEFT:
            yield from attempt("flow", flexible.flow_from(start, seed), "flow")
    best = max(tried[1:], key=lambda one: one.bound)
    better = best.bound - first.bound > 2.0 * np.hypot(best.error, first.error)
    return (best if better else None), [one.row(better and one is best) for one in tried[1:]]
