"""Gradient ascent with a line search that recognises an objective without maximum."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._conjugate.coordinate.summit import Summit
from jensen._core import relayed

ARMIJO = 1e-4
ESCAPES = 10
"""Ascents at most after the first, each from a higher point beside the end of the last."""
FAR = 1e10
"""Coordinates beyond this, the objective still rising, count as unbounded."""


@dataclass(frozen=True)
class Climb:
    """The end of a climb: the point, the value there, and the verdict."""

    point: np.ndarray
    value: float
    converged: bool
    unbounded: bool
    status: str
    slope: np.ndarray = field(default_factory=lambda: np.zeros(0))


Steps = Generator[tuple[np.ndarray, float], None, Climb]
"""(x, f) at the start and after every step."""


def climb(objective: Callable[[Any], Any], start: Any, max_steps: int, tolerance: float) -> Steps:
    """Ascents from the start and, where one ends at a minimum or saddle, from a higher point nearby, to a maximum.

    `converged` says that the last one ended where the objective rises nowhere around: neither along the axes of
    largest curvature nor, however slowly, for ever along some ray (the verdict `unbounded` then).
    """
    program = jax.jit(jax.value_and_grad(objective))
    origin = np.asarray(start, float)
    summit, point, steps = None, origin, 0

    def counted(at: Any) -> Any:
        nonlocal steps
        steps += 1
        return at

    for left in reversed(range(ESCAPES + 1)):
        run = ascent(program, point, max_steps - steps, tolerance)
        found = yield from relayed(run, counted)
        if not found.converged:
            return found
        summit = summit or Summit(objective)
        axes = summit.axes(found.point)
        above = summit.higher(found.point, found.value, axes[1], max(10.0 * tolerance, 1e-12 * abs(found.value)))
        if above is None:
            endless = summit.endless(found.point, found.value, axes, [found.slope, found.point - origin])
            status = _AT_INFINITY if endless else found.status
            return replace(found, converged=not endless, unbounded=endless, status=status)
        if not left or steps >= max_steps:
            break
        point = above
    status = "Stopped at a saddle or minimum: the bound is higher nearby. Allow more with max_steps."
    return replace(found, converged=False, status=status)


def ascent(program: Callable[[Any], Any], start: np.ndarray, max_steps: int, tolerance: float) -> Steps:
    """x ← x + ρ ∇f(x), ρ by Armijo's rule from a Barzilai-Borwein first try; f never falls.

    Yields (x, f) at the start and after every step. Points where f is NaN or -inf are never accepted; f = +inf, or
    coordinates that run away while f still rises, give the verdict `unbounded`, and so does an ascent that only stops
    where f is no longer finite.
    """

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = program(jnp.asarray(x))
        return float(value), np.asarray(gradient, float)

    x = np.asarray(start, float)
    value, gradient = evaluate(x)
    quiet, edge = 0, 0
    yield x, value
    rate = 1.0 / max(1.0, float(np.linalg.norm(gradient)))
    if not np.isfinite(value):
        return Climb(x, value, False, False, "The start has no finite value.")
    for steps in range(1, max_steps + 1):
        found = _step(evaluate, x, value, gradient, rate)
        if found is None and edge:
            return Climb(x, value, False, True, _NO_MAXIMUM)
        if found is None:
            status = f"Converged after {steps} steps: no ascent is left."
            return Climb(x, value, True, False, status, gradient)
        new, new_value, new_gradient, rate, cut = found
        edge = edge + 1 if cut else 0
        if new_value == np.inf or (np.abs(new).max() > FAR and new_value > value):
            yield new, new_value
            return Climb(new, new_value, False, True, _NO_MAXIMUM)
        moved, bent = new - x, gradient - new_gradient
        quiet = quiet + 1 if new_value - value < tolerance else 0
        curvature = float(moved @ bent)
        rate = float(moved @ moved) / curvature if curvature > 0 else 4.0 * rate
        x, value, gradient = new, new_value, new_gradient
        yield x, value
        if quiet >= 5 and edge >= 5:
            return Climb(x, value, False, True, _NO_MAXIMUM)
        if quiet >= 5 and edge == 0:
            status = f"Converged after {steps} steps: the last five gained less than {tolerance:g} nats each."
            return Climb(x, value, True, False, status, gradient)
    status = f"Stopped after {max_steps} steps, the bound still rising. Allow more with max_steps."
    return Climb(x, value, False, False, status)


_NO_MAXIMUM = "The bound has no maximum: it rises until it is no longer finite. Check its signs and its data."

_AT_INFINITY = (
    "The bound has no maximum: it goes on rising, ever more slowly, without end. Check its signs and its data."
)


def _step(
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x: np.ndarray,
    value: float,
    gradient: np.ndarray,
    rate: float,
) -> tuple[np.ndarray, float, np.ndarray, float, bool] | None:
    """(new point, value, gradient, rate, whether a longer step left the domain); `None` where no rate raises f."""
    slope = float(gradient @ gradient)
    if slope == 0.0 or not np.isfinite(slope):
        return None
    cut = False
    for _ in range(80):
        new = x + rate * gradient
        new_value, new_gradient = evaluate(new)
        rises = new_value == np.inf or (
            np.isfinite(new_value) and np.isfinite(new_gradient).all() and new_value >= value + ARMIJO * rate * slope
        )
        if rises and new_value > value:
            return new, new_value, new_gradient, rate, cut
        cut |= not np.isfinite(new_value)
        rate *= 0.5
    return None
