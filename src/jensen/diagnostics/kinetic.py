"""Do the draws stay put? A few Hamiltonian steps must leave posterior draws where they are."""

from dataclasses import dataclass

import numpy as np

from jensen.math import linalg
from jensen.models import Target


@dataclass(frozen=True)
class Drift:
    """What a short Hamiltonian run did to the draws.

    Attributes:
        shift: largest move of a coordinate's mean, in posterior sd. spread: largest change of a log sd.
        shift_z, spread_z: their z-scores; the largest of D is compared with a threshold that grows with D.
        coordinate: index of the coordinate that moved most. acceptance: mean acceptance probability.
    """

    shift: float
    shift_z: float
    spread: float
    spread_z: float
    coordinate: int
    acceptance: float


def drift(
    target: Target, points: np.ndarray, factor: np.ndarray, seed: int, *, transitions: int = 4, leapfrog: int = 8
) -> Drift:
    """Move draws by `transitions` Hamiltonian transitions and measure the drift of means and spreads.

    The transition leaves the posterior invariant, so for exact draws every mean change is zero up to Monte Carlo error,
    whatever the shape of the posterior and however it was approximated: a test that shares nothing with importance
    weights but the starting points. Coordinates are whitened by `factor`. Neal (2011); the use of one kernel to test a
    sample is that of Cook, Gelman and Rubin's family of invariance checks.
    """
    rng = np.random.default_rng(seed)
    count, dim = points.shape
    step = 0.6 / dim**0.25
    start = points
    values, gradients = target.value_and_grad(points)
    accepted = np.zeros(count)
    for _ in range(transitions):
        momentum = rng.normal(size=(count, dim))
        lengths = step * rng.uniform(0.5, 1.0, size=(count, 1))
        where, value, gradient, speed = points, values, gradients, momentum
        for _ in range(leapfrog):
            speed = speed + 0.5 * lengths * (gradient @ factor)
            where = where + lengths * (speed @ factor.T)
            value, gradient = target.value_and_grad(where)
            gradient = np.where(np.isfinite(gradient), gradient, 0.0)
            speed = speed + 0.5 * lengths * (gradient @ factor)
        energy = value - values - 0.5 * (speed**2).sum(axis=1) + 0.5 * (momentum**2).sum(axis=1)
        energy = np.where(np.isfinite(energy), energy, -np.inf)
        accept = np.log(rng.uniform(size=count)) < energy
        accepted += np.exp(np.minimum(energy, 0.0)) / transitions
        points = np.where(accept[:, None], where, points)
        values = np.where(accept, value, values)
        gradients = np.where(accept[:, None], gradient, gradients)
    before, after = linalg.solve_lower(factor, start.T).T, linalg.solve_lower(factor, points.T).T
    centre = before.mean(axis=0)
    scale = before.std(axis=0) + 1e-300
    move = (after - before) / scale
    widening = 0.5 * (((after - centre) / scale) ** 2 - ((before - centre) / scale) ** 2)
    shift, shift_z = _largest(move)
    spread, spread_z = _largest(widening)
    return Drift(
        abs(shift), shift_z, abs(spread), spread_z, int(np.abs(move.mean(axis=0)).argmax()), float(accepted.mean())
    )


def _largest(changes: np.ndarray) -> tuple[float, float]:
    mean = changes.mean(axis=0)
    error = changes.std(axis=0) / np.sqrt(len(changes)) + 1e-12
    worst = int(np.abs(mean / error).argmax())
    return float(mean[worst]), float(abs(mean[worst]) / error[worst])
