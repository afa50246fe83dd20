"""Where coordinate ascent ended, as the start of a Gaussian on the density with discrete latents summed out."""

from collections.abc import Mapping

import jax
import numpy as np

from jensen._conjugate.coordinate.collapse import chosen
from jensen._core import Outcome
from jensen._families import FullRank
from jensen._families.exponential import draw_many
from jensen._math.precision import working
from jensen._model import Target

DRAWS = 1024
"""Draws of the factors whose moments a Gaussian begins with: as many as weights use, which compiles nothing more."""
EFFORT, MATRICES = 1.5e9, 100
"""Work of a Gaussian's ascent, some seconds, that is not exceeded; D³ of it for the matrices of a step."""
FEWEST = 12
"""Steps without which an ascent that began at the factors' moments is not begun."""


def steps_for(target: Target, draws: int, most: int) -> int:
    """Steps of `draws` gradients that `EFFORT` affords, at most `most`; 0 where these are too few to be of use."""
    steps = int(EFFORT / (draws * target.work + MATRICES * target.dim**3))
    return 0 if steps < FEWEST else min(steps, most)


def point_near(target: Target, factors: Outcome) -> np.ndarray | None:
    """u at the factors' means; `None` where some latents have no factor that was held, or that is no point."""
    means = jax.device_get(factors.q.held().means())
    if any(site.name not in means for site in target.structure.latents):
        return None
    point = target.unconstrain({site.name: np.asarray(means[site.name], float) for site in target.structure.latents})
    return point if np.isfinite(point).all() else None


def gaussian_near(target: Target, factors: Outcome) -> FullRank | None:
    """The Gaussian over R^D with the factors' means and sds; `None` where some latents have no factor that was held.

    It stands for one labelling, the one where coordinate ascent has found the mass.
    """
    held, names = factors.q.held(), {site.name for site in target.structure.latents}
    with working(target.precision):
        own = chosen(held, [block for block, sites in held.blocks if names & set(sites)])
        draws: Mapping[str, np.ndarray] = draw_many(own, DRAWS, 0)
    if not names <= set(draws):
        return None
    points, _ = target.inverse({site.name: np.asarray(draws[site.name], float) for site in target.structure.latents})
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < DRAWS // 2:
        return None
    return FullRank.from_factor(points.mean(axis=0), np.diag(np.maximum(points.std(axis=0), 1e-12)))
