"""Whether corrected draws stay where they are under Hamiltonian steps."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._families import AbstractGaussian
from jensen._math import linalg
from jensen._verdict.importance import weighted_moments
from jensen._verdict.kinetic import Drift, drift
from jensen._verdict.verdict import Material

MOVED, MOVED_HEAVY = 256, 32
"""Draws that are moved; fewer where the data are large."""
STEPS, STEPS_HEAVY, STEPS_LARGE, LARGE = 12, 6, 4, 2e7
"""Leapfrog steps of a transition; fewer where the data are large, and fewest from `LARGE` data values on: posteriors of
many rows are nearly Gaussian, and a proposal that errs is refused, which the acceptance shows."""
DRIFT, ACCEPTED = 0.15, 0.3
"""Drift of means in sd (that of log sds may be twice as large), and the least acceptance."""
LEVEL = 0.01
"""Nats of both Kullback-Leibler divergences below which no step is taken: they allow a mean to be off by 0.1 sd."""


@dataclass(frozen=True, eq=False)
class Stationary(AbstractCheck):
    """Drift of means and sds under a kernel that leaves the posterior as it is; `shape` is a Gaussian of q's shape.

    Where q and the posterior are as good as the same, the kernel leaves q as it is too, and nothing is moved.
    """

    shape: AbstractGaussian
    dear = True

    def measure(self, material: Material) -> Iterator[Finding]:
        """Means, sds, and how many proposals are accepted."""
        apart = material.pool.divergence
        if apart < LEVEL:
            ground = f"q is within {max(apart, 1e-4):.1g} nats of the posterior, in both directions of the divergence."
            yield Finding("KL(p, q) + KL(q, p) in nats", apart, f"< {LEVEL}", True, grounds={"trusted": ground})
            return
        count = MOVED_HEAVY if material.target.heavy else MOVED
        motion, remedy = self._motion(material, count), material.answer.advice["untrusted"]
        names = material.target.coordinate_names()
        away = (
            "Draws move away under Hamiltonian steps, which leave the posterior where it is: "
            f"{names[motion.coordinate]} by {motion.shift:.2g} sd, a log sd by {motion.spread:.2g}."
        )
        stays, keeps, accepted = motion.shift < DRIFT, motion.spread < 2 * DRIFT, motion.acceptance > ACCEPTED
        yield Finding(
            "Hamiltonian acceptance",
            motion.acceptance,
            f"> {ACCEPTED}",
            accepted,
            reason=""
            if accepted
            else "The posterior's scale changes from place to place: Hamiltonian steps of one size are accepted at "
            f"only {motion.acceptance:.0%}.",
            remedy=remedy,
        )
        yield Finding(
            "Hamiltonian drift of log sds",
            motion.spread,
            f"< {2 * DRIFT}",
            keeps,
            reason="" if keeps else away,
            remedy=remedy,
        )
        yield Finding(
            "Hamiltonian drift of means, in sd",
            motion.shift,
            f"< {DRIFT}",
            stays,
            reason="" if stays else away,
            grounds={"trusted": f"{count} draws did not drift under Hamiltonian steps."},
        )

    def _motion(self, material: Material, count: int) -> Drift:
        target, pool, q = material.target, material.pool, self.shape
        start = pool.points[pool.resample(count, material.seed + 11)]
        mean, factor = np.asarray(q.loc, float), None
        if pool.ess > max(2.0 * target.dim, 100.0) and target.dim <= 1000:
            mean, _, _ = weighted_moments(pool.points, pool.weights)
            centred = (pool.points - mean) * np.sqrt(pool.weights)[:, None]
            covariance = centred.T @ centred
            factor = linalg.cholesky(covariance) if linalg.is_positive_definite(covariance) else None
        if factor is None:
            factor = q.factor() if target.dim <= 1000 else np.diag(q.scales())
        steps = STEPS if not target.heavy else STEPS_HEAVY if target.elements < LARGE else STEPS_LARGE
        return drift(target, start, mean, factor, material.seed, leapfrog=steps)
