"""Do the draws stay put? A Hamiltonian transition must leave posterior draws where they are."""

from dataclasses import dataclass

import numpy as np

from jensen._math import linalg
from jensen._model import Target


@dataclass(frozen=True)
class Drift:
    """What a Hamiltonian transition did to the draws.

    Attributes:
        shift: largest change of a coordinate's mean, in posterior sd, among those that are significant (4 standard
            errors), else 0. spread: the same for half the change of a variance relative to the variance.
        coordinate: index of the coordinate whose mean changed most. acceptance: mean acceptance probability.
    """

    shift: float
    spread: float
    coordinate: int
    acceptance: float


@np.errstate(over="ignore", invalid="ignore")  # trajectories may run off where the density is steep
def drift(
    target: Target, points: np.ndarray, mean: np.ndarray, factor: np.ndarray, seed: int, *, leapfrog: int = 12
) -> Drift:
    """Move draws by one Hamiltonian transition and measure the drift of their means and variances.

    The transition leaves the posterior invariant, so for posterior draws every mean change is zero up to Monte Carlo
    error, whatever the posterior's shape and however it was approximated: a test that shares nothing with importance
    weights but the starting points. Each draw is moved with a momentum and with its negative, and the change is
    regressed on the start's own distance from the posterior mean, so that for a Gaussian the noise cancels exactly.
    Coordinates are whitened by `factor`; one transition has unit length. Kernel: Neal (2011), section 2.

    Args:
        target: the log density.
        points: draws to test, (n, D).
        mean: of the posterior, as estimated from all draws (with a mean that is not the draws' own, the regression
            would take a displacement for noise).
        factor: lower triangular, of the posterior's covariance as estimated from all draws.
        seed: of the momenta.
        leapfrog: steps a transition; the cost is 2 n · leapfrog gradients.
    """
    rng = np.random.default_rng(seed)
    momentum = rng.normal(size=points.shape)
    values, gradients = target.value_and_grad(points)
    start = linalg.whitened(factor, points - mean)
    length = 1.0 / leapfrog
    moves, widenings, acceptance = [], [], []
    for sign in (1.0, -1.0):
        end, accept = _transition(target, points, values, gradients, sign * momentum, factor, length, leapfrog)
        finish = linalg.whitened(factor, end - mean)
        # the expectation over acceptance, instead of a coin
        moves.append(accept[:, None] * (finish - start))
        widenings.append(0.5 * accept[:, None] * (finish**2 - start**2))
        acceptance.append(accept.mean())
    shift, coordinate = _significant(0.5 * (moves[0] + moves[1]), start)
    spread, _ = _significant(0.5 * (widenings[0] + widenings[1]), start**2 - 1.0)
    return Drift(shift, spread, coordinate, float(np.mean(acceptance)))


def _transition(
    target: Target,
    points: np.ndarray,
    values: np.ndarray,
    gradients: np.ndarray,
    momentum: np.ndarray,
    factor: np.ndarray,
    length: float,
    leapfrog: int,
) -> tuple[np.ndarray, np.ndarray]:
    """End points and acceptance probabilities of leapfrog trajectories."""
    where, value, gradient, speed = points, values, gradients, momentum
    for _ in range(leapfrog):
        speed = speed + 0.5 * length * (gradient @ factor)
        where = where + length * (speed @ factor.T)
        value, gradient = target.value_and_grad(where)
        gradient = np.where(np.isfinite(gradient), gradient, 0.0)
        speed = speed + 0.5 * length * (gradient @ factor)
    energy = value - values - 0.5 * (speed**2).sum(axis=1) + 0.5 * (momentum**2).sum(axis=1)
    accept = np.where(np.isfinite(energy), np.exp(np.minimum(energy, 0.0)), 0.0)
    return np.where(np.isfinite(where), where, points), accept


def _significant(changes: np.ndarray, control: np.ndarray) -> tuple[float, int]:
    """Largest significant mean change over the columns and its column, with a zero-mean control regressed out."""
    centred = control - control.mean(axis=0)
    slope = (centred * changes).mean(axis=0) / np.maximum((centred**2).mean(axis=0), 1e-300)
    residual = changes - slope * control
    mean = residual.mean(axis=0)
    error = residual.std(axis=0) / np.sqrt(len(changes))
    size = np.where(np.abs(mean) > 4.0 * error, np.abs(mean), 0.0)
    return float(size.max()), int(size.argmax())
