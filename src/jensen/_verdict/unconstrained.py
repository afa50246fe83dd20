"""Draws of latents on their supports, taken to R^D where their tails are worth a look."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jensen._base.errors import JensenError
from jensen._model import Target
from jensen._verdict.importance import Pool
from jensen._verdict.tails import quantiles

LONG = 2.2
"""How many times as far from the median as the 90 % point the 99 % point must be: 1.8 under a Gaussian, 2.4 where a
tail is exponential. The density over R^D is another program, which costs as much as many fits of factors."""
LARGEST = 200


def on_the_line(
    build: Callable[[], Target], pool: Pool, draws: dict[str, np.ndarray], latents: list[Any], always: bool
) -> Any:
    """(the log density over R^D, the draws there, their weights); `None` where D is large.

    Unless `always`, also where no tail is long.
    """
    continuous = [site for site in latents if not site.discrete and site.values is None]
    if not continuous or not all(site.name in draws for site in continuous):
        return None
    table = np.concatenate([draws[s.name].reshape(len(pool.weights), -1) for s in continuous], axis=1)
    if table.shape[1] > LARGEST or not (always or _long(table, pool.weights)):
        return None
    try:
        target = build()
    except JensenError:
        return None
    if target.heavy or {site.name for site in target.structure.latents} != {site.name for site in continuous}:
        return None
    points = target.inverse({site.name: draws[site.name] for site in continuous})[0]
    sound = np.asarray(np.isfinite(points).all(axis=1))
    if sound.mean() < 0.99:  # draws at the edge of a support
        return None
    weights = np.where(sound, pool.weights, 0.0)
    return target, np.where(sound[:, None], points, np.median(points[sound], axis=0)), weights / weights.sum()


def _long(table: np.ndarray, weights: np.ndarray) -> bool:
    middle = quantiles(table, weights, 0.5)
    for near, far in ((0.9, 0.99), (0.1, 0.01)):
        distances = (np.abs(quantiles(table, weights, level) - middle) for level in (near, far))
        with np.errstate(invalid="ignore", divide="ignore"):
            near_by, far_off = distances
            if np.any(far_off / near_by > LONG):
                return True
    return False
