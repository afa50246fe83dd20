"""Trust-region Newton ascent with a certificate, on the host."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jensen._math.curvature import AbstractCurvature


@dataclass
class Newton:
    """State of the ascent: point, value, gradient, curvature (minus the Hessian) and the trust radius."""

    point: np.ndarray
    value: float
    gradient: np.ndarray
    curvature: AbstractCurvature
    radius: float = 1.0
    rejected: int = 0

    def step(self) -> np.ndarray:
        """The unrestricted Newton step A⁻¹g where A is positive definite, else NaN."""
        return self.curvature.newton(self.gradient)

    def decrement(self) -> float:
        """gᵀA⁻¹g: twice the rise that the quadratic model still predicts, in nats; infinite off the concave region."""
        step = self.step()
        return float(self.gradient @ step) if np.isfinite(step).all() else np.inf


def advance(
    state: Newton,
    value_and_grad: Callable[[np.ndarray], tuple[float, np.ndarray]],
    curvature: Callable[[np.ndarray], AbstractCurvature],
) -> Newton:
    """One trust-region step (Nocedal and Wright, algorithm 4.1) in coordinates of roughly unit scale.

    A trial point that is not finite or does not rise enough shrinks the radius and leaves the state where it was.
    """
    step = state.curvature.within(state.gradient, state.radius)
    trial = state.point + step
    predicted = state.gradient @ step - 0.5 * step @ state.curvature.product(step)
    value, gradient = value_and_grad(trial)
    slack = 1e-14 * (1.0 + abs(state.value))
    finite = np.isfinite(value) and np.isfinite(gradient).all()
    ratio = (value - state.value + slack) / (predicted + slack) if finite else -1.0
    if ratio < 0.1:
        state.radius = 0.25 * min(float(np.linalg.norm(step)), state.radius)
        state.rejected += 1
        return state
    grown = 2.0 * state.radius if ratio > 0.75 and np.linalg.norm(step) > 0.9 * state.radius else state.radius
    return Newton(trial, float(value), gradient, curvature(trial), min(grown, 1e4), 0)
