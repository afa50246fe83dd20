"""A posterior with a hard edge: y ~ Uniform(0, theta) ends at theta = max y, a factor of -inf where it likes."""

import numpy as np

from jensen._base.errors import ModelError
from jensen._model import Target

SHARE, NEAR = 0.05, 20.0
"""Draws around the mode beyond an edge that are too many; nats below the mode at which an edge does not matter."""


def check_edge(target: Target, point: np.ndarray, factor: np.ndarray, settled: bool) -> None:
    """Raise where the log density jumps to -inf at its highest place, or inside the bulk around its mode.

    No smooth density on the line has its mass there: every Gaussian would put much of its own where there is none.
    `settled` says whether `point` is a mode, with a Gaussian of covariance factor · factorᵀ.
    """
    beyond = _in_the_bulk(target, point, factor) if settled else _uphill(target, point)
    if beyond is None:
        return
    sites = [name for name, term in target.terms(beyond).items() if np.isneginf(term).any()]
    furthest = int(np.abs(beyond - point).argmax()) if settled else int(np.abs(_gradient(target, point)).argmax())
    name = next(site.name for site, where in target.structure.slices() if where.start <= furthest < where.stop)
    at = np.asarray(target.latent(beyond)[name], float)
    shown = f"{at:.6g}" if not at.ndim else np.array2string(at, precision=4, threshold=6, edgeitems=2)
    how = "runs through the bulk of the posterior" if settled else "is where the posterior is highest"
    raise ModelError(
        f"A hard edge {how}: beyond it the density of '{sites[0] if sites else name}' is zero.",
        f"Near {name} = {shown} (coordinate '{target.structure.coordinate_names()[furthest]}').",
        f"Let the edge be the end of a support: sample the distance from it, distance = sample('{name}_distance', "
        f"HalfNormal(...)), and set {name} = deterministic('{name}', edge + distance). The edge may be computed from "
        "data, as y.max() is for Uniform(0, theta), or from other latents.",
    )


def _gradient(target: Target, point: np.ndarray) -> np.ndarray:
    return target.value_and_grad(point[None])[1][0]


def _uphill(target: Target, point: np.ndarray) -> np.ndarray | None:
    """A point just beyond the edge up to which the log density rises from here."""
    gradient = _gradient(target, point)
    length = np.linalg.norm(gradient)
    if not 0.0 < length < np.inf:
        return None
    ahead = np.concatenate([point[None], point + 2.0 ** np.arange(-39.0, 1.0)[:, None] * gradient / length])
    values, _ = target.value_and_grad(ahead)
    broken = np.flatnonzero(~np.isfinite(values))
    if not len(broken) or broken[0] == 0 or not np.isneginf(values[broken[0]]):
        return None
    return ahead[broken[0]] if values[broken[0] - 1] >= values[0] else None


def _in_the_bulk(target: Target, point: np.ndarray, factor: np.ndarray) -> np.ndarray | None:
    """A point just beyond an edge that cuts off a share of the Gaussian at the mode."""
    draws = point + np.random.default_rng(0).normal(size=(64, target.dim)) @ factor.T
    values, _ = target.value_and_grad(np.concatenate([point[None], draws]))
    outside = draws[np.isneginf(values[1:])]
    if len(outside) < SHARE * len(draws):
        return None
    low, high = np.zeros(len(outside)), np.ones(len(outside))
    for _ in range(30):
        middle = 0.5 * (low + high)
        found, _ = target.value_and_grad(point + middle[:, None] * (outside - point))
        inside = np.isfinite(found)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    edges = point + low[:, None] * (outside - point)
    heights, _ = target.value_and_grad(edges)
    best = int(np.argmax(heights))
    return point + high[best] * (outside[best] - point) if heights[best] > values[0] - NEAR else None
