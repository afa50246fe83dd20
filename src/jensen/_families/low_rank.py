"""The low-rank-plus-diagonal Gaussian."""

from typing import Self

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np

from jensen._base.typing import Array, Flat, Float, Scalar, leaf
from jensen._families.gaussian import AbstractGaussian, normal_log_prob


class LowRank(AbstractGaussian):
    """q(u) = N(u; m, diag(s²) + BBᵀ), s = exp(log_scale), B of shape (D, R).

    Draws use D + R noise variables: u = m + s ∘ ε₁ + B ε₂. Density and entropy cost O(D R²) by the Woodbury identity
    and the matrix determinant lemma, det(S² + BBᵀ) = det(S²) det(I + BᵀS⁻²B).
    """

    loc: Flat
    log_scale: Flat
    factors: Float[Array, "dim rank"]

    @classmethod
    def from_covariance(cls, loc: np.ndarray, covariance: np.ndarray, rank: int) -> Self:
        """Closest in the scaled eigenvalue sense: `rank` leading directions of the correlation, the rest diagonal."""
        scales = np.sqrt(np.diag(covariance))
        values, vectors = np.linalg.eigh(covariance / np.outer(scales, scales))
        values, vectors = values[::-1], vectors[:, ::-1]
        floor = max(float(values[rank:].mean()) if rank < len(values) else 1e-4, 1e-6)
        factors = vectors[:, :rank] * np.sqrt(np.maximum(values[:rank] - floor, 0.0))
        rest = np.maximum(1.0 - (factors**2).sum(axis=1), 1e-6)
        log_scale = np.log(scales) + 0.5 * np.log(rest)
        return cls(leaf(np.array(loc, float)), leaf(log_scale), leaf(scales[:, None] * factors))

    @classmethod
    def around(cls, q: AbstractGaussian, rank: int, seed: int) -> Self:
        """q's mean and spread with a small random factor to grow from."""
        scales = q.scales()
        noise = np.random.default_rng(seed).normal(size=(q.dim, rank))
        factors = 0.1 * scales[:, None] * noise / np.sqrt(rank)
        return cls(leaf(np.asarray(q.loc, float)), leaf(np.log(scales)), leaf(factors))

    @property
    def rank(self) -> int:
        """R."""
        return self.factors.shape[-1]

    @property
    def noise_dim(self) -> int:
        """D + R."""
        return self.dim + self.rank

    def transform(self, noise: Array) -> Flat:
        """m + s ∘ ε₁ + B ε₂."""
        return self.loc + jnp.exp(self.log_scale) * noise[: self.dim] + self.factors @ noise[self.dim :]

    def _capacitance(self) -> tuple[Array, Array]:
        scaled = self.factors * jnp.exp(-self.log_scale)[:, None]
        return scaled, jnp.linalg.cholesky(jnp.eye(self.rank) + scaled.T @ scaled)

    def half_log_det(self) -> Scalar:
        """Σ log s_d + ½ log det(I + BᵀS⁻²B)."""
        _, root = self._capacitance()
        return jnp.sum(self.log_scale) + jnp.sum(jnp.log(jnp.diagonal(root)))

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats."""
        scaled, root = self._capacitance()
        diagonal = (value - self.loc) * jnp.exp(-self.log_scale)
        shared = jsl.solve_triangular(root, scaled.T @ diagonal, lower=True)
        half_log_det = jnp.sum(self.log_scale) + jnp.sum(jnp.log(jnp.diagonal(root)))
        return normal_log_prob(diagonal, half_log_det) + 0.5 * jnp.sum(shared**2)

    def _host(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.asarray(self.loc, float), np.exp(np.asarray(self.log_scale, float)), np.asarray(self.factors, float)

    def affine(self, shift: np.ndarray, scale: np.ndarray, dtype: type = np.float64) -> "LowRank":
        """Shift + scale ∘ u, in the same family."""
        loc, _, factors = self._host()
        log_scale = np.asarray(self.log_scale, float) + np.log(scale)
        factors = np.asarray(scale, float)[:, None] * factors
        loc = (shift + scale * loc).astype(dtype)
        return LowRank(leaf(loc), leaf(log_scale.astype(dtype)), leaf(factors.astype(dtype)))

    def covariance(self) -> np.ndarray:
        """diag(s²) + BBᵀ."""
        _, scales, factors = self._host()
        return np.diag(scales**2) + factors @ factors.T

    def scales(self) -> np.ndarray:
        """Square roots of the covariance's diagonal."""
        _, scales, factors = self._host()
        return np.sqrt(scales**2 + (factors**2).sum(axis=1))

    def host_transform(self, noise: np.ndarray) -> np.ndarray:
        """`transform` for rows of ε."""
        loc, scales, factors = self._host()
        return loc + scales * noise[:, : self.dim] + noise[:, self.dim :] @ factors.T

    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q for rows."""
        loc, scales, factors = self._host()
        scaled = factors / scales[:, None]
        root = np.linalg.cholesky(np.eye(self.rank) + scaled.T @ scaled)
        diagonal = (points - loc) / scales
        shared = np.linalg.solve(root, scaled.T @ diagonal.T)
        half_log_det = np.log(scales).sum() + np.log(np.diag(root)).sum()
        return normal_log_prob(diagonal, half_log_det) + 0.5 * (shared**2).sum(axis=0)
