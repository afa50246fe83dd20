"""Inverse curvature from the steps of a quasi-Newton path."""

from typing import Any

import numpy as np

from jensen.math import lbfgs, linalg


def inverse_hessian(path: lbfgs.Path, index: int, history: int = 30) -> np.ndarray:
    """The quasi-Newton inverse of the negated Hessian at iterate `index`, dense (D, D).

    Starts from the diagonal α of Gilbert and Lemaréchal's update and applies the BFGS formula
    H ← (I - ρ s yᵀ) H (I - ρ y sᵀ) + ρ s sᵀ for the last `history` pairs with positive curvature.
    """
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    diagonal = np.ones_like(path.points[0])
    for before in range(index):
        step = path.points[before + 1] - path.points[before]
        change = path.gradients[before] - path.gradients[before + 1]
        if step @ change > 1e-12 * (change @ change) > 0:
            diagonal = lbfgs.diagonal_update(diagonal, step, change)
            pairs.append((step, change))
    matrix: Any = np.diag(diagonal)
    for step, change in pairs[-history:]:
        rho = 1.0 / (step @ change)
        product = matrix @ change
        matrix = (
            matrix
            - rho * (np.outer(step, product) + np.outer(product, step))
            + (rho**2 * (change @ product) + rho) * np.outer(step, step)
        )
    return linalg.symmetrise(matrix)
