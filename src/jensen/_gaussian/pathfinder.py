"""Pathfinder: Gaussians along quasi-Newton paths, the best by its bound."""

from typing import ClassVar

import equinox as eqx
import numpy as np

from jensen._core import Outcome, Progress
from jensen._core.algorithm import Run
from jensen._families import FullRank
from jensen._math import lbfgs, linalg
from jensen._math.noise import normal_draws
from jensen._math.quasi_newton import inverse_hessians
from jensen._model import Target
from jensen._modes.climbs import climb, survey
from jensen._modes.continuous import AbstractContinuous


class Pathfinder(AbstractContinuous):
    """q_l = N(u_l + H_l⁻¹ g_l, H_l⁻¹) at every iterate l of several L-BFGS climbs; the highest ELBO wins.

    H_l⁻¹ is the limited-memory inverse Hessian (Byrd, Nocedal and Schnabel 1994, with the diagonal update of Gilbert
    and Lemaréchal 1989). Zhang, Carpenter, Gelman and Vehtari (2022), algorithms 1 to 4. Cost: the climbs plus
    `num_draws` log densities for each iterate looked at. Quick and rough: the bound is not maximised beyond the choice.

    Args:
        num_paths: climbs from different starts. num_draws: draws by which Gaussians are compared.
        history: curvature pairs kept. max_steps: L-BFGS steps a path.
    """

    name: ClassVar[str] = "pathfinder"
    num_paths: int = eqx.field(static=True, default=8)
    num_draws: int = eqx.field(static=True, default=64)
    history: int = eqx.field(static=True, default=10)
    max_steps: int = eqx.field(static=True, default=500)

    def run(self, target: Target, seed: int) -> Run:
        """Climb, then compare the Gaussians along all paths on common draws."""
        paths = yield from climb(target, seed, self.num_paths, self.max_steps)
        found = survey(target, paths)
        best, bounds = None, []
        for number, path in enumerate(paths):
            q, bound = best_along(target, path, seed, self.num_draws, self.history)
            bounds.append(bound)
            if q is not None and (best is None or bound > best[1]):
                best = (q, bound)
            yield Progress("comparing", number, max(bounds), None if best is None else best[0])
        if best is None:
            q = FullRank.from_factor(paths[0].best[0], np.eye(target.dim))
            return Outcome(
                q, False, "No iterate gave a positive definite curvature.", found.certificate(), restarts=tuple(bounds)
            )
        return Outcome(
            best[0],
            True,
            f"The best Gaussian along {len(paths)} paths was taken.",
            found.certificate(),
            restarts=tuple(sorted(bounds)[::-1]),
        )


def best_along(
    target: Target, path: lbfgs.Path, seed: int, num_draws: int, history: int, max_points: int = 25
) -> tuple[FullRank | None, float]:
    """The Gaussian of highest estimated ELBO among (at most `max_points`, evenly spread) iterates of a path."""
    noise = normal_draws(num_draws, target.dim, seed)
    wanted = (
        np.unique(np.linspace(1, len(path.points) - 1, max_points).round().astype(int)) if len(path.points) > 1 else []
    )
    best: tuple[FullRank | None, float] = (None, -np.inf)
    for index, matrix in zip(wanted, inverse_hessians(path, wanted, history), strict=True):
        if not linalg.is_positive_definite(matrix):
            continue
        q = FullRank.from_factor(path.points[index] + matrix @ path.gradients[index], linalg.cholesky(matrix))
        points = q.host_transform(noise)
        bound = float(np.mean(target.value(points) - q.host_log_prob(points)))
        if bound > best[1]:
            best = (q, bound)
    return best
