"""A surface through few values of a dear density: where it is evaluated next, and when it is near enough."""

from collections.abc import Generator

import numpy as np
from scipy.linalg import LinAlgError

from jensen.algorithms.explore import climb
from jensen.algorithms.hard_edge import check_edge
from jensen.algorithms.improper import check_integral
from jensen.core import Progress
from jensen.math import lbfgs, linalg
from jensen.math.quasi_newton import inverse_hessian
from jensen.math.surface import Surface
from jensen.models.nested import EmulatedTarget, NestedTarget

OFF, ROUNDS = 0.02, 12
"""Nats by which values may differ from the surface's from place to place; rounds of evaluations at most."""
FEWEST = 6
"""Points at which the surface is checked in a round, at least; as many are chosen where it is least known."""
NEAR, EACH = 15.0, 2.0
"""Nats below the highest, and for each coordinate besides, within which values tell the surface."""
STEP = 0.3
"""Distance in sd over which the curvature at the mode is taken."""
DRAWS, TAIL, PASSES = 1024, 4.0, 4
"""Draws of the surface's posterior, degrees of freedom of their proposal, and how often that is improved."""


class _Known:
    """Values and gradients so far."""

    def __init__(self, target: NestedTarget):
        self.target, self.points, self.values = target, np.zeros((0, target.dim)), np.zeros(0)
        self.gradients = self.points

    def add(self, points: np.ndarray, values: np.ndarray, gradients: np.ndarray) -> None:
        self.points = np.concatenate([self.points, points])
        self.values = np.concatenate([self.values, values])
        self.gradients = np.concatenate([self.gradients, gradients])

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluated there, and known from now on."""
        values, gradients = self.target.value_and_grad(points)
        self.add(points, values, gradients)
        return values, gradients

    def surface(self, centre: np.ndarray, factor: np.ndarray) -> Surface:
        """Through all values that matter; what is not finite does not."""
        sound = np.isfinite(self.values) & np.isfinite(self.gradients).all(axis=1)
        top = self.values[sound].max()
        near = sound & (self.values > top - NEAR - EACH * self.target.dim)
        return Surface.fitted(self.points[near], self.values[near], self.gradients[near], centre, factor)


def emulated(target: NestedTarget, seed: int, starts: int) -> Generator[Progress, None, EmulatedTarget | None]:
    """A surface that follows the density to within `OFF` nats over its posterior; `None` where few values do not do.

    Climbs find the mode, and differences of gradients its curvature. Then rounds of evaluations, at draws of what the
    surface says is the posterior and at those of them where it is least known (Acerbi 2018 has the idea; gradients are
    known here besides), until values at draws that it has not seen are as it says.
    """
    paths = yield from climb(target, seed, starts)
    top = paths[0]
    known = _Known(target)
    for path in paths:
        known.add(np.stack(path.points), np.asarray(path.values), np.stack(path.gradients))
    factor = _curvature(known, top)
    if factor is None or _apart(paths, factor):
        return None
    centre, highest = top.best[0], top.best[1]
    check_integral(target, centre, factor)
    if not target.heavy:
        check_edge(target, centre, factor, True)
    rng = np.random.default_rng([seed, 67])
    count = max(FEWEST, target.dim)
    for index in range(ROUNDS):
        try:
            surface = known.surface(centre, factor)
        except LinAlgError:
            return None
        draws, centre, factor = _posterior(surface, centre, factor, rng)
        fresh, pool = draws[:count], draws[count:]
        values, _ = known.at(np.concatenate([fresh, _least_known(surface, pool[:400], count)]))
        if not np.isfinite(values).all():
            return None
        off = float(np.std(values[:count] - surface.value_and_grad(fresh)[0]))
        yield Progress("surface", index, highest, None, f"off by {off:.2g} nats")
        if off < OFF:
            return EmulatedTarget.over(target, known.surface(centre, factor), off)
    return None


def _curvature(known: _Known, path: lbfgs.Path) -> np.ndarray | None:
    """F with F Fᵀ the covariance at the end of the climb; `None` where the density is not concave there."""
    point, matrix = path.best[0], inverse_hessian(path, len(path.points) - 1)
    if linalg.is_positive_definite(matrix):
        factor = linalg.cholesky(matrix)
    else:
        factor = np.diag(np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-12)))
    for _ in range(3):
        moves = STEP * factor.T
        _, gradients = known.at(np.concatenate([point + moves, point - moves]))
        dim = len(point)
        curvature = -linalg.symmetrise((gradients[:dim] - gradients[dim:]) @ factor / (2.0 * STEP))
        if not np.isfinite(curvature).all():
            return None
        values, vectors = np.linalg.eigh(curvature)
        factor = linalg.lower_factor(factor @ (vectors / np.sqrt(np.clip(np.abs(values), 1e-3, 1e6))))
        if values.min() > 0.2 and values.max() < 5.0:
            return factor
    return factor if values.min() > 0.0 else None


def _apart(paths: list[lbfgs.Path], factor: np.ndarray) -> bool:
    """Whether climbs have ended at another place that matters."""
    point, value, _ = paths[0].best
    dim = len(point)
    for path in paths[1:]:
        distance = float(np.linalg.norm(linalg.solve_lower(factor, path.best[0] - point)))
        if distance > 5.0 + np.sqrt(dim) and path.best[1] > value - NEAR and path.converged:
            return True
    return False


def _posterior(
    surface: Surface, centre: np.ndarray, factor: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws from exp f, and their mean and a factor of their covariance, by adaptive importance sampling."""
    dim = len(centre)
    for _ in range(PASSES):
        noise = rng.normal(size=(DRAWS, dim)) * np.sqrt(TAIL / rng.chisquare(TAIL, size=(DRAWS, 1)))
        points = centre + noise @ factor.T
        logs = surface.value_and_grad(points)[0] + 0.5 * (TAIL + dim) * np.log1p((noise**2).sum(axis=1) / TAIL)
        weights = np.exp(np.minimum(logs - logs.max(), 0.0))
        average = weights.mean() * np.sqrt(DRAWS)  # none counts more than √n times the average (Ionides 2008)
        weights = np.minimum(weights, average) / np.minimum(weights, average).sum()
        mean = weights @ points
        moved = (points - mean) * np.sqrt(weights)[:, None]
        covariance = moved.T @ moved
        if not linalg.is_positive_definite(covariance):
            break
        effective = 1.0 / float((weights**2).sum())
        if effective < 3.0 * dim:
            break
        centre, factor = mean, linalg.cholesky(covariance)
    return points[rng.choice(DRAWS, DRAWS, p=weights)], centre, factor


def _least_known(surface: Surface, pool: np.ndarray, count: int) -> np.ndarray:
    """Of these points those that say most, one after the other, about the surface at all of them."""
    pool = np.unique(pool, axis=0)
    covariance = surface.covariance(pool)
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        own = np.diag(covariance).copy()
        own[chosen] = -np.inf
        best = int(np.argmax(own))
        chosen.append(best)
        seen = covariance[:, best]
        covariance = covariance - np.outer(seen, seen) / (seen[best] + 1e-9 * surface.scale + 1e-300)
    return pool[chosen]
