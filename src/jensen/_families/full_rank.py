"""The full-rank Gaussian."""

from typing import Self

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np

from jensen._base.typing import Array, Flat, Float, RowsOfFlat, Scalar, leaf
from jensen._families.gaussian import AbstractNatural, normal_log_prob, paced, shortened
from jensen._math import linalg


class FullRank(AbstractNatural):
    """q(u) = N(u; m, LLᵀ), L lower triangular with diagonal exp(log_diagonal).

    The chart (m, log diag L, strict lower part) is unconstrained and covers every positive definite covariance.

    Attributes:
        loc: m, shape (D,). log_diagonal: shape (D,). lower: shape (D, D), of which the strict lower triangle is used.
        A leading axis of all three holds one Gaussian for each row, for `jax.vmap`.
    """

    loc: RowsOfFlat
    log_diagonal: RowsOfFlat
    lower: Float[Array, "*rows dim dim"]

    @classmethod
    def from_factor(cls, loc: np.ndarray, factor: np.ndarray) -> Self:
        """From a mean and a lower triangular factor of the covariance."""
        signs = np.sign(np.diag(factor))
        factor = factor * signs
        return cls(leaf(np.array(loc, float)), leaf(np.log(np.diag(factor))), leaf(np.tril(factor, -1)))

    @property
    def noise_dim(self) -> int:
        """D."""
        return self.dim

    def scale_tril(self) -> Array:
        """L."""
        return jnp.tril(self.lower, -1) + jnp.diag(jnp.exp(self.log_diagonal))

    def transform(self, noise: Array) -> Flat:
        """m + L ε."""
        return self.loc + self.scale_tril() @ noise

    def half_log_det(self) -> Scalar:
        """Σ_d log L_dd."""
        return jnp.sum(self.log_diagonal)

    def whiten(self, value: Flat) -> Array:
        """L⁻¹ (u - m), the inverse of `transform`; one triangular solve."""
        return jsl.solve_triangular(self.scale_tril(), value - self.loc, lower=True)

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats."""
        return normal_log_prob(self.whiten(value), self.half_log_det())

    def whitened(self, slope: Self) -> tuple[Array, Array]:
        """(Lᵀ ∇_m L, G): the gradient in the factor is tril(2 ∇_Σ L), so Lᵀ times it has the lower triangle of G."""
        factor = self.scale_tril()
        by_factor = jnp.tril(slope.lower, -1) + jnp.diag(slope.log_diagonal * jnp.exp(-self.log_diagonal))
        lower = jnp.tril(factor.T @ by_factor)
        return factor.T @ slope.loc, lower + jnp.tril(lower, -1).T

    def unwhitened(self, slope: Array, excess: Array) -> Self:
        """The gradient in the factor is tril(2 ∇_Σ L) = tril(L⁻ᵀ G)."""
        by_factor = jsl.solve_triangular(self.scale_tril(), excess, lower=True, trans=1)
        return type(self)(slope, jnp.diagonal(by_factor) * jnp.exp(self.log_diagonal), jnp.tril(by_factor, -1))

    def excess(self, probes: Array, images: Array) -> Array:
        """The symmetric part of Σ G z zᵀ."""
        found = images.T @ probes
        return 0.5 * (found + found.T)

    def stepped(self, pull: Array, excess: Array, rho: Scalar | float) -> Self:
        """With I - ρ G = U Uᵀ, U upper triangular, L ← L U⁻ᵀ is lower triangular and m ← m + ρ L U⁻ᵀ U⁻¹ Lᵀ ∇_m L."""
        rho = paced(rho, jnp.linalg.eigvalsh(excess))
        upper = jnp.linalg.cholesky((jnp.eye(self.dim, dtype=excess.dtype) - rho * excess)[::-1, ::-1])[::-1, ::-1]
        move = jsl.solve_triangular(upper, jsl.solve_triangular(upper, pull, lower=False), lower=False, trans=1)
        factor, old = jsl.solve_triangular(upper, self.scale_tril().T, lower=False).T, self.scale_tril()
        return type(self)(self.loc + old @ (rho * shortened(move)), jnp.log(jnp.diagonal(factor)), jnp.tril(factor, -1))

    def factor(self) -> np.ndarray:
        """L on the host."""
        return np.tril(np.asarray(self.lower, float), -1) + np.diag(np.exp(np.asarray(self.log_diagonal, float)))

    def affine(self, shift: np.ndarray, scale: np.ndarray, dtype: type = np.float64) -> "FullRank":
        """Shift + scale ∘ u, in the same family."""
        loc = shift + scale * np.asarray(self.loc, float)
        log_diagonal = np.asarray(self.log_diagonal, float) + np.log(scale)
        lower = np.tril(np.asarray(self.lower, float), -1) * np.asarray(scale, float)[:, None]
        return FullRank(leaf(loc.astype(dtype)), leaf(log_diagonal.astype(dtype)), leaf(lower.astype(dtype)))

    def linear(self, shift: np.ndarray, factor: np.ndarray) -> "FullRank":
        """The Gaussian of shift + factor u, factor lower triangular."""
        return FullRank.from_factor(shift + factor @ np.asarray(self.loc, float), factor @ self.factor())

    def covariance(self) -> np.ndarray:
        """LLᵀ."""
        factor = self.factor()
        return factor @ factor.T

    def scales(self) -> np.ndarray:
        """Row norms of L."""
        return np.linalg.norm(self.factor(), axis=1)

    def host_transform(self, noise: np.ndarray) -> np.ndarray:
        """m + L ε for rows of ε."""
        return np.asarray(self.loc, float) + noise @ self.factor().T

    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q for rows."""
        factor = self.factor()
        whitened = linalg.whitened(factor, points - np.asarray(self.loc, float))
        return normal_log_prob(whitened, linalg.log_det_factor(factor))
