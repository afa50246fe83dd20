"""Limited-memory BFGS for many starts in lockstep, on the host.

All starts share one batched evaluation per step, so eight starts cost little more than one. A point whose value is
not finite counts as a failed step: the search shortens and goes on from the last finite point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(rows, dim) -> values (rows,), gradients (rows, dim)."""

RUNAWAY = 1e12
RAN_AWAY = "ran away: the function has no maximum in reach"
TRIALS, ENOUGH = 40, 12
"""Trial points of a line search, and after how many one that rises is taken although the slope is still steep there."""
TOLD, LITTLE = 1e-4, 0.05
"""The predicted rise in nats below which a climb has converged if `ENOUGH` points do not rise: what is left is the
error of the values; and the rise, in tolerances, that the way left of a line search is to promise for it to go on."""


@dataclass
class Path:
    """Accepted iterates of one start: points, values and gradients of the maximised function."""

    points: list[np.ndarray]
    values: list[float]
    gradients: list[np.ndarray]
    converged: bool = False
    stopped: str = ""
    _pairs: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _diagonal: np.ndarray | None = None

    @property
    def best(self) -> tuple[np.ndarray, float, np.ndarray]:
        """Point, value and gradient of the highest iterate."""
        top = int(np.argmax(self.values))
        return self.points[top], self.values[top], self.gradients[top]

    def direction(self, history: int) -> np.ndarray:
        """Quasi-Newton ascent direction by the two-loop recursion (Nocedal and Wright, algorithm 7.4).

        It starts from a diagonal rather than a multiple of the identity: with coordinates in very different units the
        latter underrates the wide ones, and with them the rise that is still to come.
        """
        gradient = self.gradients[-1]
        pairs = self._pairs[-history:]
        if not pairs:
            return gradient / max(1.0, float(np.linalg.norm(gradient)))
        work, weights = gradient.copy(), []
        for step, change in reversed(pairs):
            weight = (step @ work) / (step @ change)
            work -= weight * change
            weights.append(weight)
        work *= self._diagonal
        for (step, change), weight in zip(pairs, reversed(weights), strict=True):
            work += step * (weight - (change @ work) / (step @ change))
        return work

    def accept(self, point: np.ndarray, value: float, gradient: np.ndarray) -> None:
        """Append an iterate, keeping its curvature pair when the curvature is positive."""
        step, change = point - self.points[-1], self.gradients[-1] - gradient
        if step @ change > 1e-14 * np.linalg.norm(step) * np.linalg.norm(change) > 0:
            start = np.full_like(step, (step @ change) / (change @ change))
            self._diagonal = diagonal_update(start if self._diagonal is None else self._diagonal, step, change)
            self._pairs.append((step, change))
        self.points.append(point)
        self.values.append(value)
        self.gradients.append(gradient)

    def forget(self) -> None:
        """Drop the curvature, so that the next direction is the gradient's."""
        self._pairs.clear()
        self._diagonal = None


def diagonal_update(diagonal: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The diagonal of the BFGS update of a diagonal inverse Hessian (Gilbert and Lemaréchal 1989, equation 4.9)."""
    a, b, c = change @ (diagonal * change), change @ step, step @ (step / diagonal)
    inverse = a / (b * diagonal) + change**2 / b - a * step**2 / (b * c * diagonal**2)
    updated = 1.0 / inverse
    return np.where(np.isfinite(updated) & (updated > 0), updated, diagonal)


def maximise(
    evaluate: Evaluate,
    starts: np.ndarray,
    *,
    max_steps: int = 1000,
    history: int = 20,
    tolerance: float = 1e-9,
    eps: float = 2.2e-16,
    reach: float = np.inf,
) -> Iterator[list[Path]]:
    """Maximise from every start (rows of `starts`), yielding the paths at the start and after each common step.

    A start has converged when the predicted further rise, gᵀH⁻¹g/2, falls below `tolerance` nats (relative to the
    rounding error of the value, `eps` being that of the arithmetic), or where values cannot tell it from none (those of
    integrals have errors of their own), and stops when no representable step rises any more. The prediction is only as
    good as the curvature learned on the way: a caller who needs a certificate takes Newton steps from there. Step
    lengths satisfy the weak Wolfe conditions by bisection (Lewis and Overton 2013); no trial moves a coordinate by more
    than `reach`, for functions that may take forever far away.
    """
    values, gradients = evaluate(starts)
    paths = [Path([x], [float(v)], [g]) for x, v, g in zip(starts, values, gradients, strict=True)]
    for path in paths:
        if not (np.isfinite(path.values[0]) and np.isfinite(path.gradients[0]).all()):
            path.stopped = "the start is not finite"
    yield paths
    for _ in range(max_steps):
        active = [path for path in paths if not path.stopped]
        if not active:
            return
        _line_search(evaluate, active, [path.direction(history) for path in active], tolerance, eps, reach)
        for path in active:
            if np.abs(path.points[-1]).max() > RUNAWAY:
                path.stopped = RAN_AWAY
        yield paths
    for path in paths:
        path.stopped = path.stopped or f"{max_steps} steps"


def _line_search(
    evaluate: Evaluate, paths: list[Path], directions: list[np.ndarray], tolerance: float, eps: float, reach: float
) -> None:
    """One accepted step for every path, all trial points evaluated together."""
    count = len(paths)
    low, high, length = np.zeros(count), np.full(count, np.inf), np.ones(count)
    slopes = np.array([p.gradients[-1] @ d for p, d in zip(paths, directions, strict=True)])
    pending = []
    for i, path in enumerate(paths):
        rounding = 5.0 * eps * (1.0 + abs(path.values[-1]))
        if len(path.points) > 1 and 0 <= slopes[i] < max(2 * tolerance, rounding) and np.isfinite(slopes[i]):
            path.converged, path.stopped = True, "converged"
        elif not np.isfinite(slopes[i]) or slopes[i] <= 0:
            path.forget()
            directions[i] = path.direction(1)
            slopes[i] = path.gradients[-1] @ directions[i]
            pending.append(i)
        else:
            pending.append(i)
    with np.errstate(divide="ignore"):
        longest = np.array([reach / np.abs(d).max() for d in directions])
    length = np.minimum(length, longest)
    risen: dict[int, tuple[np.ndarray, float, np.ndarray]] = {}
    stuck: list[int] = []
    for attempt in range(1, TRIALS + 1):
        if not pending:
            break
        trial = np.stack([paths[i].points[-1] + length[i] * directions[i] for i in pending])
        values, gradients = evaluate(trial)
        left = []
        for i, point, value, gradient in zip(pending, trial, values, gradients, strict=True):
            start = paths[i].values[-1]
            slack = 2.0 * eps * abs(start)
            finite = np.isfinite(value) and np.isfinite(gradient).all()
            if not finite or value < start + 1e-4 * length[i] * slopes[i] - slack:
                high[i] = length[i]
            elif gradient @ directions[i] > 0.9 * slopes[i] and length[i] < longest[i]:
                low[i], risen[i] = length[i], (point, float(value), gradient)
            else:
                paths[i].accept(point, float(value), gradient)
                continue
            little = length[i] * slopes[i] < LITTLE * tolerance
            if i in risen and (little or attempt >= ENOUGH) and risen[i][1] > start + LITTLE * tolerance:
                paths[i].accept(*risen[i])
                continue
            if little or (attempt >= ENOUGH and (i in risen or slopes[i] < TOLD)):
                stuck.append(i)
                continue
            length[i] = 0.5 * (low[i] + high[i]) if np.isfinite(high[i]) else min(2.0 * low[i], longest[i])
            left.append(i)
        pending = left
    for i in pending + stuck:
        if slopes[i] < TOLD:
            paths[i].converged, paths[i].stopped = True, "converged, as far as values tell"
        elif paths[i]._pairs:
            paths[i].forget()  # once more along the plain gradient before giving up
        else:
            paths[i].stopped = "no step along the gradient rises"
