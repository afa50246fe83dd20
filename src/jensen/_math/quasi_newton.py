"""Inverse curvature from the steps of a quasi-Newton path."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jensen._math import lbfgs, linalg


def inverse_hessian(path: lbfgs.Path, index: int, history: int = 30) -> np.ndarray:
    """The quasi-Newton inverse of the negated Hessian at iterate `index`, dense (D, D)."""
    return next(inverse_hessians(path, [index], history))


def inverse_hessians(path: lbfgs.Path, indices: Iterable[int], history: int = 30) -> Iterator[np.ndarray]:
    """The same at several iterates, in rising order, in one pass along the path.

    Starts from the diagonal α of Gilbert and Lemaréchal's update and applies the BFGS formula
    H ← (I - ρ s yᵀ) H (I - ρ y sᵀ) + ρ s sᵀ for the last `history` pairs with positive curvature.
    """
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    diagonal, reached = np.ones_like(path.points[0]), 0
    for index in indices:
        for before in range(reached, index):
            step = path.points[before + 1] - path.points[before]
            change = path.gradients[before] - path.gradients[before + 1]
            if step @ change > 1e-12 * (change @ change) > 0:
                diagonal = lbfgs.diagonal_update(diagonal, step, change)
                pairs.append((step, change))
        reached = index
        yield _dense(diagonal, pairs[-history:])


def _dense(diagonal: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    matrix: Any = np.diag(diagonal)
    for step, change in pairs:
        rho = 1.0 / (step @ change)
        product = matrix @ change
        matrix = (
            matrix
            - rho * (np.outer(step, product) + np.outer(product, step))
            + (rho**2 * (change @ product) + rho) * np.outer(step, step)
        )
    return linalg.symmetrise(matrix)
