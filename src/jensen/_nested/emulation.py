"""A surface through few values of a dear density: where it is evaluated next, and when it is near enough."""

from collections.abc import Generator

import numpy as np
from scipy.linalg import LinAlgError

from jensen._core import Progress
from jensen._families import FullRank
from jensen._families.heavier import student_draws, student_log_prob
from jensen._math import lbfgs, linalg
from jensen._math.quasi_newton import inverse_hessian
from jensen._math.surface import Surface
from jensen._modes.climbs import climb
from jensen._modes.hard_edge import check_edge
from jensen._modes.improper_posterior import check_integral
from jensen._nested import EmulatedTarget, NestedTarget

OFF, ROUNDS = 0.02, 12
"""Nats by which values may differ from the surface's from place to place; rounds of evaluations at most."""
LARGEST = 3000
"""Numbers, values and derivatives, beyond which a surface costs more than it saves."""
FEWEST = 4
"""Points at which the surface is checked in a round, at least; as many are chosen where it is least known."""
NEAR, EACH = 15.0, 2.0
"""Nats below the highest, and for each coordinate besides, within which values tell the surface."""
AXES, AROUND = 4.0, 1.5
"""Distance in sd at which every coordinate is looked at in the end, and at first where the posterior is known."""
STEP, TRIES, WIDEST = 0.3, 4, 3.0
"""Distance in sd over which the curvature at the mode is taken, and how often; the sd of a coordinate at first."""
SOUND, MOST, ALL = 0.8, 5.0, 0.5
"""Share of values that must be finite; nats at most by which a place counts for more, and those that are all wrong."""
POOL, FURTHER = 400, 0.35
"""Draws among which places to evaluate are chosen, and the power of the posterior that they follow."""
DRAWS, PASSES, EFFECTIVE = 1024, 4, 64
"""Draws of the surface's posterior, how often their proposal is improved, and how many are to be effective."""


class Known:
    """Values and gradients so far, the centre and scale of the surface through them, and those of the posterior."""

    def __init__(self, target: NestedTarget):
        self.target, self.points, self.values = target, np.zeros((0, target.dim)), np.zeros(0)
        self.gradients, self.off = self.points, np.inf
        self.metric = self.spread = (self.points, self.points)

    def add(self, points: np.ndarray, values: np.ndarray, gradients: np.ndarray) -> None:
        """Values that others have asked for."""
        self.points = np.concatenate([self.points, points])
        self.values = np.concatenate([self.values, values])
        self.gradients = np.concatenate([self.gradients, gradients])

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluated there, and known from now on."""
        values, gradients = self.target.value_and_grad(points)
        self.add(points, values, gradients)
        return values, gradients

    def value(self, points: np.ndarray) -> np.ndarray:
        """Log densities there, evaluated where they are not known."""
        new = [row for row in points if not (self.points == row).all(axis=1).any()]
        if new:
            self.at(np.stack(new))
        return np.array([self.values[(self.points == row).all(axis=1).argmax()] for row in points])

    def again(self, target: NestedTarget) -> "Known":
        """What another density of about the same posterior is there: its values at the centre and along the axes."""
        other = Known(target)
        other.metric = other.spread = centre, factor = self.spread
        other.at(np.concatenate([centre[None], centre + AROUND * factor.T, centre - AROUND * factor.T]))
        return other

    def draws(self, count: int, seed: int) -> np.ndarray:
        """Of the Gaussian of centre and scale."""
        centre, factor = self.spread
        return centre + np.random.default_rng([seed, 71]).normal(size=(count, len(centre))) @ factor.T

    def full(self) -> bool:
        """Whether more values would cost more than they save."""
        return self.values.size * (1 + self.target.dim) > LARGEST

    def emulated(self) -> EmulatedTarget:
        """The target of the surface."""
        return EmulatedTarget.over(self.target, self.surface(), self.off)

    def surface(self) -> Surface:
        """Through all values that matter, away from the places of those that do not."""
        sound = np.isfinite(self.values) & np.isfinite(self.gradients).all(axis=1)
        near = sound & (self.values >= self.values[sound].max() - NEAR - EACH * self.target.dim)
        known = self.points[near], self.values[near], self.gradients[near]
        return Surface.fitted(*known, *self.metric, self.points[~near])


def located(target: NestedTarget, seed: int, starts: int) -> Generator[Progress, None, Known | None]:
    """The mode by climbs, and the curvature there by differences of gradients; `None` where there are several modes."""
    paths = yield from climb(target, seed, starts)
    known = Known(target)
    for path in paths:
        known.add(np.stack(path.points), np.asarray(path.values), np.stack(path.gradients))
    factor = _curvature(known, paths[0])
    if factor is None or _apart(paths, factor):
        return None
    known.metric = known.spread = (paths[0].best[0], factor)
    check_integral(target, *known.metric)
    if not target.heavy:
        check_edge(target, *known.metric, True)
    return known


def followed(known: Known, seed: int) -> Generator[Progress, None, bool]:
    """Whether what is known comes to tell a surface that is within `OFF` nats over the posterior.

    Rounds of evaluations at draws of what the surface says is the posterior, at those of them that weigh most and at
    those where it is least known (Acerbi 2018 has the idea; gradients are known here besides), until values at draws
    that it has not seen are as it says.
    """
    rng, (centre, factor) = np.random.default_rng([seed, 67]), known.metric
    count = max(FEWEST, known.target.dim)
    for index in range(ROUNDS):
        if known.full():
            return False
        try:
            surface = known.surface()
        except LinAlgError:
            return False
        draws, weights, centre, factor, many = _posterior(surface, centre, factor, rng)
        further = weights**FURTHER / np.sum(weights**FURTHER)
        rows = rng.choice(len(draws), 2 * count + POOL, p=further)
        fresh, pool = draws[rows[: 2 * count]], draws[rows[2 * count :]]
        values, _ = known.at(np.concatenate([fresh, _least_known(surface, pool, count)]))
        if not np.isfinite(values).mean() > SOUND:
            return False
        told, shares = surface.value_and_grad(fresh)[0], (weights / further)[rows[: 2 * count]]
        off = varies(values[: 2 * count] - told, shares)
        yield Progress("surface", index, float(known.values.max()), None, f"off by {off:.2g} nats")
        if off < OFF and many:
            known.at(_far_along(centre, factor))
            known.off, known.spread = off, (centre, factor)
            return True
    return False


def _far_along(centre: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Points `AXES` sd out along each coordinate, where the others are as expected: what tails are told by."""
    covariance = factor @ factor.T
    moves = AXES * covariance / np.sqrt(np.diag(covariance))
    return np.concatenate([centre + moves.T, centre - moves.T])


def varies(difference: np.ndarray, weights: np.ndarray) -> float:
    """What a difference of log densities, f - g, does to a posterior: its mean distance from the median, in nats.

    At draws with weights of exp g. Where f is higher they weigh as much as under exp f: a tail that g has not counts.
    Beyond `ALL` nats, and where f is not finite, all of a draw's weight is wrong.
    """
    finite = np.isfinite(difference)
    if not finite.any():
        return ALL
    order = np.argsort(difference[finite])
    below = np.cumsum(weights[finite][order])
    middle = difference[finite][order][np.searchsorted(below, 0.5 * below[-1])]
    apart = np.where(finite, difference - middle, -np.inf)
    weights = weights * np.exp(np.clip(apart, 0.0, MOST))
    return float(weights @ np.minimum(np.abs(apart), ALL) / weights.sum())


def _curvature(known: Known, path: lbfgs.Path) -> np.ndarray | None:
    """F with F Fᵀ about the covariance at the end of the climb; `None` where the density is not finite around it."""
    point, matrix = path.best[0], inverse_hessian(path, len(path.points) - 1)
    dim = len(point)
    if linalg.is_positive_definite(matrix):
        factor = linalg.cholesky(matrix)
    else:
        factor = np.diag(np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-12)))
    factor = factor * np.minimum(1.0, WIDEST / np.linalg.norm(factor, axis=1))[:, None]
    for _ in range(TRIES):
        moves = STEP * factor.T
        values, gradients = known.at(np.concatenate([point + moves, point - moves]))
        if not (np.isfinite(values).all() and np.isfinite(gradients).all()):
            factor = 0.2 * factor
            continue
        curvature = -linalg.symmetrise((gradients[:dim] - gradients[dim:]) @ factor / (2.0 * STEP))
        sizes, vectors = np.linalg.eigh(curvature)
        factor = linalg.lower_factor(factor @ (vectors / np.sqrt(np.clip(np.abs(sizes), 0.05, 1e6))))
        if sizes.min() > 0.2 and sizes.max() < 5.0:
            break
    return factor if np.isfinite(values).all() else None


def _apart(paths: list[lbfgs.Path], factor: np.ndarray) -> bool:
    """Whether climbs have ended at another place that matters, where no Newton step leads back from."""
    point, value, _ = paths[0].best
    dim = len(point)
    for path in paths[1:]:
        end, _, gradient = path.best
        distance = float(np.linalg.norm(linalg.solve_lower(factor, end - point) + factor.T @ gradient))
        if distance > 5.0 + np.sqrt(dim) and path.best[1] > value - NEAR and path.converged:
            return True
    return False


def _posterior(
    surface: Surface, centre: np.ndarray, factor: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Draws with weights from exp f, their mean, a factor of their covariance, and whether many of them are effective.

    By adaptive importance sampling (Cappé, Douc, Guillin, Marin and Robert 2008). Where few draws have all the weight,
    which a surface that is still wrong far out can do, weights are tempered.
    """
    for last in range(PASSES):
        near = FullRank.from_factor(centre, factor)
        points = student_draws(near, DRAWS, int(rng.integers(2**31)))
        weights, power = _tempered(surface.value_and_grad(points)[0] - student_log_prob(near, points))
        mean = weights @ points
        moved = (points - mean) * np.sqrt(weights)[:, None]
        covariance = moved.T @ moved
        if last < PASSES - 1 and linalg.is_positive_definite(covariance):
            centre, factor = mean, linalg.cholesky(covariance)
    return points, weights, centre, factor, power == 1.0


def _tempered(logs: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights that sum to one, at least `EFFECTIVE` of them effective, and the power that it took."""
    logs, power = logs - logs.max(), 1.0
    while True:
        weights = np.exp(power * logs)
        weights /= weights.sum()
        if 1.0 / float((weights**2).sum()) >= EFFECTIVE:
            return weights, power
        power *= 0.7


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
