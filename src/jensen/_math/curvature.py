"""The negated Hessian of an objective: as a matrix, or as a product with vectors where a matrix would be too large."""

import abc
from collections.abc import Callable

import numpy as np
from scipy import linalg


class AbstractCurvature(abc.ABC):
    """A symmetric operator A with the three things a trust-region step asks of it."""

    @abc.abstractmethod
    def newton(self, gradient: np.ndarray) -> np.ndarray:
        """A⁻¹g where A is positive definite, else NaN."""

    @abc.abstractmethod
    def within(self, gradient: np.ndarray, radius: float) -> np.ndarray:
        """A maximiser (exact or truncated) of gᵀs - ½ sᵀAs over |s| ≤ radius."""

    @abc.abstractmethod
    def product(self, vector: np.ndarray) -> np.ndarray:
        """A v."""


class Dense(AbstractCurvature):
    """A as a matrix; both problems are solved exactly."""

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix

    def product(self, vector: np.ndarray) -> np.ndarray:
        """A v."""
        return self.matrix @ vector

    def newton(self, gradient: np.ndarray) -> np.ndarray:
        """By a Cholesky factorisation."""
        try:
            return linalg.cho_solve(linalg.cho_factor(self.matrix), gradient)
        except (linalg.LinAlgError, ValueError):
            return np.full_like(gradient, np.nan)

    def within(self, gradient: np.ndarray, radius: float) -> np.ndarray:
        """By an eigendecomposition and bisection on the multiplier (Nocedal and Wright, section 4.3)."""
        values, vectors = np.linalg.eigh(self.matrix)
        rotated = vectors.T @ gradient
        lowest = values.min()
        if lowest > 0 and np.linalg.norm(rotated / values) <= radius:
            return vectors @ (rotated / values)
        low = max(0.0, -lowest) + 1e-12 * max(1.0, abs(lowest))
        high = max(low * 2, np.linalg.norm(rotated) / radius + max(0.0, -lowest)) + 1.0
        for _ in range(100):
            shift = 0.5 * (low + high)
            if np.linalg.norm(rotated / (values + shift)) > radius:
                low = shift
            else:
                high = shift
        return vectors @ (rotated / (values + high))


class MatrixFree(AbstractCurvature):
    """A as a product; conjugate gradients, truncated at the radius or at negative curvature (Steihaug 1983)."""

    def __init__(self, product: Callable[[np.ndarray], np.ndarray], tolerance: float = 1e-6, most: int = 500):
        self._product, self.tolerance, self.most = product, tolerance, most

    def product(self, vector: np.ndarray) -> np.ndarray:
        """A v."""
        return self._product(vector)

    def newton(self, gradient: np.ndarray) -> np.ndarray:
        """Conjugate gradients to a relative residual of `tolerance`."""
        return self._conjugate_gradients(gradient, np.inf)

    def within(self, gradient: np.ndarray, radius: float) -> np.ndarray:
        """Steihaug's truncated conjugate gradients."""
        return self._conjugate_gradients(gradient, radius)

    def _conjugate_gradients(self, gradient: np.ndarray, radius: float) -> np.ndarray:
        step, residual = np.zeros_like(gradient), gradient.copy()
        direction, squared = residual.copy(), residual @ residual
        target = self.tolerance**2 * squared
        for _ in range(min(self.most, 2 * len(gradient))):
            if squared <= target:
                break
            image = self._product(direction)
            bend = direction @ image
            if bend <= 0:
                return _to_sphere(step, direction, radius) if np.isfinite(radius) else np.full_like(gradient, np.nan)
            length = squared / bend
            if np.linalg.norm(step + length * direction) > radius:
                return _to_sphere(step, direction, radius)
            step = step + length * direction
            residual = residual - length * image
            previous, squared = squared, residual @ residual
            direction = residual + (squared / previous) * direction
        return step


def _to_sphere(step: np.ndarray, direction: np.ndarray, radius: float) -> np.ndarray:
    """Where the ray from `step` along `direction` leaves the ball."""
    a, b, c = direction @ direction, step @ direction, step @ step - radius**2
    return step + (-b + np.sqrt(max(b * b - a * c, 0.0))) / a * direction
