"""Posteriors without an integral, found at the mode: a direction along which the log density does not fall.

Along a ray u + s d the marginal density of s is, to second order, exp(f(u + s d)) / √det A(s), where A is the curvature
across the ray. It has an integral only if it falls faster than 1 / s. Rays are followed outwards in doublings, as far
as the log density is finite, and the last stretches decide.
"""

import numpy as np
from numpyro.distributions import biject_to
from numpyro.distributions.transforms import ExpTransform, IndependentTransform

from jensen._base.errors import ModelError
from jensen._math import linalg
from jensen._model import Target

DOUBLINGS, STRETCH = 33, 3
"""A ray ends at 2³³ ≈ 10¹⁰ in unconstrained units: beyond it rounding decides. Over a stretch 1 / s falls by log 8."""
FALLEN, FAR, NEAR = 30.0, 400.0, 10.0
"""A density that has fallen by so many nats at this distance is followed no further; what is near the origin."""
JUMP = 1e3
"""How many times as much as ever before a log density may change at one doubling of the distance: 2^p by s^p."""
NULL = 1e-7
"""Curvature, relative to that along the coordinates and absolute, below which a direction is worth following."""
MOST = 300
"""Largest number of coordinates that are looked at."""


def check_integral(target: Target, point: np.ndarray, factor: np.ndarray) -> None:
    """Raise where the density around a maximum has a direction along which it does not fall off.

    Followed are the directions without curvature, the way from the origin (along which separated data run off), and
    every coordinate. It costs 2D gradients and 2D values, and a few more values for each ray that is followed.
    `factor` (D, D) gives the scale of the coordinates.
    """
    if target.dim > MOST or target.heavy or np.isfinite(target.reach):
        return
    for start, direction in _rays(target, point, factor):
        values = _followed(target, start, direction)
        if not _falls(values) and not _narrows(target, start, direction, values):
            raise _improper(target, start, direction, values)


def _rays(target: Target, point: np.ndarray, factor: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Starts and unit vectors along which the density has not fallen much far out.

    Differences of gradients, which need no compilation, say whether there are any without curvature; second derivatives
    then say exactly which.
    """
    axes = []
    for i, axis in enumerate(np.eye(target.dim)):
        # A climb may have run along a coordinate up to where it overflows: its way is followed from near the origin.
        near = point + axis * (np.clip(point[i], -NEAR, NEAR) - point[i])
        axes += [(near, axis), (near, -axis)]
    flat = _unfallen(target, _level(point, _flat(target, point, factor, exact=False)))
    flat = flat and _unfallen(target, _level(point, _flat(target, point, factor, exact=True)))
    return flat + _unfallen(target, axes)


def _level(point: np.ndarray, flat: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both ways along directions without curvature, and then along the way from the origin too."""
    if flat and np.abs(point).max() > NEAR:
        flat = [*flat, point / np.linalg.norm(point)]
    return [(point, sign * direction) for direction in flat for sign in (1.0, -1.0)]


def _unfallen(target: Target, rays: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    if not rays:
        return []
    here = target.value(np.stack([start for start, _ in rays]))
    there = target.value(np.stack([start + FAR * direction for start, direction in rays]))
    return [ray for ray, a, b in zip(rays, here, there, strict=True) if b > a - FALLEN]


def _flat(target: Target, point: np.ndarray, factor: np.ndarray, exact: bool) -> list[np.ndarray]:
    """Unit vectors along which the log density has no curvature, or one that rises."""
    scale = np.clip(np.linalg.norm(factor, axis=1), 1e-3, 10.0)
    if exact:
        curvature = -target.hessian(point) * np.outer(scale, scale)
    else:
        moves = 1e-3 * np.diag(scale)
        _, gradients = target.value_and_grad(np.concatenate([point + moves, point - moves]))
        curvature = -(gradients[: target.dim] - gradients[target.dim :]) / 2e-3 * scale
    if not np.isfinite(curvature).all():
        return []
    vectors = scale[:, None] * _null(curvature, NULL if exact else 1e-5)
    vectors = np.where(np.abs(vectors) > 1e-9 * np.abs(vectors).max(axis=0, initial=0.0), vectors, 0.0)
    return list((vectors / np.linalg.norm(vectors, axis=0)).T)


def _null(curvature: np.ndarray, below: float) -> np.ndarray:
    """Axes (D, k) of an operator with eigenvalues below a limit, in coordinates of unit curvature."""
    diagonal = np.abs(np.diag(curvature))
    root = 1.0 / np.sqrt(np.where(diagonal > NULL, diagonal, 1.0))
    values, vectors = np.linalg.eigh(linalg.symmetrise(curvature * np.outer(root, root)))
    return root[:, None] * vectors[:, values < below]


def _followed(target: Target, point: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Log densities at distances 1, 2, 4, ... as far as they are finite, and the latents can still move."""
    points = point + 2.0 ** np.arange(DOUBLINGS + 1)[:, None] * direction
    values = target.value(points)
    latents = np.concatenate([np.reshape(v, (len(points), -1)) for v in target.constrain(points).values()], axis=1)
    held = np.concatenate([[False], (latents[1:] == latents[:-1]).all(axis=1)])  # at the smallest number, say
    broken = np.flatnonzero(~np.isfinite(values) | held | _cancelled(values))
    return values[: broken[0]] if len(broken) else values


def _cancelled(values: np.ndarray) -> np.ndarray:
    """From where on a density that falls at first has lost its digits: it rises, and then jumps as no power of s does.

    Large terms that should cancel, of the order of exp(500) in a log Γ, leave a rounding error of their size.
    """
    lost = np.zeros(len(values), bool)
    moves = np.diff(np.where(np.isfinite(values), values, np.nan))
    rises = np.flatnonzero(~(moves < 0.0))
    if len(rises) and rises[0] >= STRETCH:
        largest = np.maximum.accumulate(np.abs(moves))
        if (np.abs(moves[rises[0] :]) > JUMP * largest[rises[0] - 1 : -1]).any():
            lost[rises[0] + 1 :] = True
    return lost


def _falls(values: np.ndarray) -> bool:
    """Whether the last values fall faster than 1 / s, or at a rate that does not fade (an exponential tail)."""
    if len(values) <= 2 * STRETCH:
        return True  # it ends at a hard edge
    first, second = values[-1 - 2 * STRETCH] - values[-1 - STRETCH], values[-1 - STRETCH] - values[-1]
    rounding = 1e-9 * (1.0 + np.abs(values).max()) + 1e-3 * (len(values) > DOUBLINGS)
    steady = second > rounding and second > 4.0 * first > 0.0
    return bool(second > 1.001 * STRETCH * np.log(2.0) or steady)


def _narrows(target: Target, point: np.ndarray, direction: np.ndarray, values: np.ndarray) -> bool:
    """Whether the density narrows across the ray, so that its marginal falls faster than 1 / s all the same."""
    across = np.linalg.svd(direction[None])[2][1:].T
    if not across.shape[1]:
        return False
    for last in range(len(values) - 1, 2 * STRETCH, -1):  # squares overflow sooner than values
        ends = last - 2 * STRETCH, last
        curvatures = [-(across.T @ target.hessian(point + 2.0**k * direction) @ across) for k in ends]
        if all(np.isfinite(curvature).all() for curvature in curvatures):
            near, far = (np.linalg.eigvalsh(curvature) for curvature in curvatures)
            both = (near > 1e-10 * near.max()) & (far > 1e-10 * far.max())
            narrower = 0.5 * np.log(far[both] / near[both]).sum()
            return bool(values[ends[0]] - values[ends[1]] + narrower > 1.001 * 2 * STRETCH * np.log(2.0))
    return True  # nothing can be said


def _improper(target: Target, point: np.ndarray, direction: np.ndarray, values: np.ndarray) -> ModelError:
    names = _names(target)
    largest = np.abs(direction).max()
    order = [i for i in np.argsort(-np.abs(direction), kind="stable") if np.abs(direction[i]) > 1e-3 * largest]
    shown = sorted(order[:6])
    parts = direction[shown] / (abs(direction[shown[0]]) if len(shown) == 1 else direction[shown[0]])
    words = _combination([names[i] for i in shown], parts) + (" + ..." if len(order) > 6 else "")
    distance = 2.0 ** (len(values) - 1)
    back = target.value(point - np.array([0.0, distance])[:, None] * direction)
    what = f"its log density does not fall as {words} grows"
    if len(order) == 2 and max(abs(back[1] - back[0]), abs(values[-1] - back[0])) < 1e-2:
        other = _combination([names[i] for i in shown], np.array([1.0, -1.0 / parts[1]]))
        what = f"only {other} is determined, and its log density does not change along {words}"
    sites = dict.fromkeys(repr(names[i].split("[")[0].removeprefix("log ")) for i in shown)
    return ModelError(
        f"The posterior is improper, so it cannot be normalised: {what}.",
        f"At a distance of {distance:.0e} (unconstrained coordinates) it has changed by "
        f"{values[-1] - back[0]:.3g} nats.",
        f"Give {', '.join(sites)} a proper prior, or take out of the model what the data cannot tell.",
    )


def _names(target: Target) -> list[str]:
    """Of the coordinates, with `log` where that is what they are."""
    names = target.structure.coordinate_names()
    for site, where in target.structure.slices():
        transform = biject_to(site.support)
        while isinstance(transform, IndependentTransform):
            transform = transform.base_transform
        if isinstance(transform, ExpTransform):
            names[where] = [f"log {name}" for name in names[where]]
    return names


def _combination(names: list[str], coefficients: np.ndarray) -> str:
    """`b0 - 2 b2`."""
    words = ""
    for name, coefficient in zip(names, coefficients, strict=True):
        size = "" if abs(abs(coefficient) - 1.0) < 5e-4 else f"{abs(coefficient):.3g} "
        sign = "-" if coefficient < 0 else "+"
        words += f" {sign} {size}{name}" if words else f"{'-' if coefficient < 0 else ''}{size}{name}"
    return words
