"""Limited-memory BFGS for many starts in lockstep, on the host.

All starts share one batched evaluation per step, so eight starts cost little more than one. A point whose value is
not finite counts as a failed step: the search shortens and goes on from the last finite point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(rows, dim) -> values (rows,), gradients (rows, dim)."""


@dataclass
class Path:
    """Accepted iterates of one start: points, values and gradients of the maximised function."""

    points: list[np.ndarray]
    values: list[float]
    gradients: list[np.ndarray]
    converged: bool = False
    stopped: str = ""
    _pairs: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def best(self) -> tuple[np.ndarray, float, np.ndarray]:
        """Point, value and gradient of the highest iterate."""
        top = int(np.argmax(self.values))
        return self.points[top], self.values[top], self.gradients[top]

    def direction(self, history: int) -> np.ndarray:
        """Quasi-Newton ascent direction by the two-loop recursion (Nocedal and Wright, algorithm 7.4)."""
        gradient = self.gradients[-1]
        pairs = self._pairs[-history:]
        if not pairs:
            return gradient / max(1.0, float(np.linalg.norm(gradient)))
        work, weights = gradient.copy(), []
        for step, change in reversed(pairs):
            weight = (step @ work) / (step @ change)
            work -= weight * change
            weights.append(weight)
        step, change = pairs[-1]
        work *= (step @ change) / (change @ change)
        for (step, change), weight in zip(pairs, reversed(weights), strict=True):
            work += step * (weight - (change @ work) / (step @ change))
        return work

    def accept(self, point: np.ndarray, value: float, gradient: np.ndarray) -> None:
        """Append an iterate, keeping its curvature pair when the curvature is positive."""
        step, change = point - self.points[-1], self.gradients[-1] - gradient
        if step @ change > 1e-14 * np.linalg.norm(step) * np.linalg.norm(change) > 0:
            self._pairs.append((step, change))
        self.points.append(point)
        self.values.append(value)
        self.gradients.append(gradient)


def maximise(
    evaluate: Evaluate, starts: np.ndarray, *, max_steps: int = 1000, history: int = 20, tolerance: float = 1e-9
) -> Iterator[list[Path]]:
    """Maximise from every start (rows of `starts`), yielding the paths after each common step.

    A start has converged when the predicted further rise, gᵀH⁻¹g/2, falls below `tolerance` nats (relative to
    the rounding error of the value), and stops when no representable step rises any more. Step lengths satisfy the
    weak Wolfe conditions by bisection (Lewis and Overton 2013).
    """
    values, gradients = evaluate(starts)
    paths = [Path([x], [float(v)], [g]) for x, v, g in zip(starts, values, gradients, strict=True)]
    for path in paths:
        if not (np.isfinite(path.values[0]) and np.isfinite(path.gradients[0]).all()):
            path.stopped = "the start is not finite"
    for _ in range(max_steps):
        active = [path for path in paths if not path.stopped]
        if not active:
            return
        _line_search(evaluate, active, [path.direction(history) for path in active], tolerance)
        yield paths
    for path in paths:
        path.stopped = path.stopped or f"{max_steps} steps"


def _line_search(evaluate: Evaluate, paths: list[Path], directions: list[np.ndarray], tolerance: float) -> None:
    """One accepted step for every path, all trial points evaluated together."""
    count = len(paths)
    low, high, length = np.zeros(count), np.full(count, np.inf), np.ones(count)
    slopes = np.array([p.gradients[-1] @ d for p, d in zip(paths, directions, strict=True)])
    pending = []
    for i, path in enumerate(paths):
        rounding = 1e-15 * (1.0 + abs(path.values[-1]))
        if len(path.points) > 1 and 0 <= slopes[i] < max(2 * tolerance, rounding) and np.isfinite(slopes[i]):
            path.converged, path.stopped = True, "converged"
        elif not np.isfinite(slopes[i]) or slopes[i] <= 0:
            path._pairs.clear()
            directions[i] = path.direction(1)
            slopes[i] = path.gradients[-1] @ directions[i]
            pending.append(i)
        else:
            pending.append(i)
    for _ in range(40):
        if not pending:
            return
        trial = np.stack([paths[i].points[-1] + length[i] * directions[i] for i in pending])
        values, gradients = evaluate(trial)
        left = []
        for i, point, value, gradient in zip(pending, trial, values, gradients, strict=True):
            start = paths[i].values[-1]
            slack = 4e-16 * abs(start)
            finite = np.isfinite(value) and np.isfinite(gradient).all()
            if not finite or value < start + 1e-4 * length[i] * slopes[i] - slack:
                high[i] = length[i]
            elif gradient @ directions[i] > 0.9 * slopes[i]:
                low[i] = length[i]
            else:
                paths[i].accept(point, float(value), gradient)
                continue
            length[i] = 0.5 * (low[i] + high[i]) if np.isfinite(high[i]) else 2.0 * low[i]
            left.append(i)
        pending = left
    for i in pending:
        if low[i] > 0:  # a rise was found, only the curvature condition was not met
            point = (paths[i].points[-1] + low[i] * directions[i])[None]
            value, gradient = evaluate(point)
            paths[i].accept(point[0], float(value[0]), gradient[0])
        elif paths[i]._pairs:
            paths[i]._pairs.clear()  # once more along the plain gradient before giving up
        else:
            paths[i].stopped = "no step along the gradient rises"
