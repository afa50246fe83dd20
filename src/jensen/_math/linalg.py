"""Small dense linear algebra on the host, always in float64."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import linalg
from scipy.linalg.lapack import get_lapack_funcs

_TRTRI: Any = get_lapack_funcs("trtri", dtype=np.float64)
SMALL = 200_000
"""Multiplications up to which BLAS keeps to one thread. Beyond, two threads wait for each other longer than they work
where the matrix is small and the rows are many, above all on a machine that has other work."""


def symmetrise(matrix: np.ndarray) -> np.ndarray:
    """(A + Aᵀ) / 2."""
    return 0.5 * (matrix + matrix.T)


def is_positive_definite(matrix: np.ndarray) -> bool:
    """Whether the diagonally scaled matrix is positive definite beyond rounding, whatever the coordinates' units."""
    diagonal = np.diag(matrix)
    if not np.isfinite(matrix).all() or (diagonal <= 0).any():
        return False
    root = np.sqrt(diagonal)
    values = np.linalg.eigvalsh(symmetrise(matrix / np.outer(root, root)))
    return bool(values[0] > 10.0 * len(root) * np.finfo(float).eps * values[-1])


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor, computed in diagonally scaled coordinates so that wildly different units do no harm."""
    root = np.sqrt(np.diag(matrix))
    return root[:, None] * np.linalg.cholesky(symmetrise(matrix / np.outer(root, root)))


def inverse_factor(precision: np.ndarray) -> np.ndarray:
    """Lower triangular L with L Lᵀ = precision⁻¹, without forming the inverse of an ill-scaled matrix."""
    root = 1.0 / np.sqrt(np.diag(precision))
    scaled = symmetrise(precision * np.outer(root, root))
    # With P = U Uᵀ, U upper triangular, U⁻ᵀ is lower triangular and its outer product is P⁻¹.
    flipped = np.linalg.cholesky(scaled[::-1, ::-1])[::-1, ::-1]
    return root[:, None] * inverse_triangular(flipped, lower=False).T


def lower_factor(root: np.ndarray) -> np.ndarray:
    """Lower triangular L with L Lᵀ = A Aᵀ, by QR: the product, whose condition number is squared, is not formed."""
    upper = np.linalg.qr(root.T, mode="r")
    signs = np.where(np.diag(upper) < 0, -1.0, 1.0)
    return (signs[:, None] * upper).T


def solve_lower(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L⁻¹ b for lower triangular L."""
    return linalg.solve_triangular(factor, right, lower=True)


def whitened(factor: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """L⁻¹ x for every row x."""
    if len(rows) <= len(factor):
        return solve_lower(factor, rows.T).T
    return times(rows, inverse_triangular(factor).T)


def inverse_triangular(factor: np.ndarray, lower: bool = True) -> np.ndarray:
    """L⁻¹, by a routine that starts no threads where L is small."""
    if not factor.size:  # the routine takes no matrix without rows
        return np.zeros((0, 0))
    inverse, info = _TRTRI(np.asarray_chkfinite(factor, float), lower=lower)
    if info:
        raise np.linalg.LinAlgError("singular matrix")
    return np.tril(inverse) if lower else np.triu(inverse)


def times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """X M for many rows X, a few at a time."""
    out = np.empty((len(rows), matrix.shape[1]))
    for part in _pieces(len(rows), matrix.size):
        np.matmul(rows[part], matrix, out=out[part])
    return out


def scatter(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ_n w_n x_n x_nᵀ, a few rows at a time."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for part in _pieces(len(rows), total.size):
        total += (rows[part].T * weights[part]) @ rows[part]
    return total


def _pieces(count: int, size: int) -> Iterator[slice]:
    step = max(64, SMALL // max(size, 1))
    return (slice(i, i + step) for i in range(0, count, step))


def log_det_factor(factor: np.ndarray) -> float:
    """log |det L| of a triangular factor."""
    return float(np.log(np.abs(np.diag(factor))).sum())


def regularised_inverse_factor(precision: np.ndarray, scale: np.ndarray, ceiling: float = 1.0) -> np.ndarray:
    """A factor for an indefinite curvature: eigenvalues are taken by modulus, in coordinates scaled by `scale`.

    Directions flatter than 1/ceiling² of those units get variance `ceiling`²; used only to start other methods.
    """
    scaled = symmetrise(precision * np.outer(scale, scale))
    values, vectors = np.linalg.eigh(np.where(np.isfinite(scaled), scaled, 0.0))
    root = 1.0 / np.sqrt(np.maximum(np.abs(values), 1.0 / ceiling**2))
    return lower_factor(scale[:, None] * (vectors * root))
