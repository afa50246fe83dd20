"""The mean-field Gaussian."""

from typing import Self

import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Flat, RowsOfFlat, Scalar, leaf
from jensen._families.gaussian import AbstractNatural, normal_log_prob, paced, shortened


class MeanField(AbstractNatural):
    """q(u) = Π_d N(u_d; m_d, s_d²), s = exp(log_scale).

    Attributes:
        loc: m, shape (D,). log_scale: log s, shape (D,). A leading axis of both holds one Gaussian for each row.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(MeanField(jnp.zeros(2), jnp.zeros(2)).entropy()), 4)
        2.8379
    """

    loc: RowsOfFlat
    log_scale: RowsOfFlat

    @property
    def noise_dim(self) -> int:
        """D."""
        return self.dim

    def transform(self, noise: Array) -> Flat:
        """m + s ∘ ε."""
        return self.loc + jnp.exp(self.log_scale) * noise

    def half_log_det(self) -> Scalar:
        """Σ_d log s_d."""
        return jnp.sum(self.log_scale)

    def whiten(self, value: Flat) -> Array:
        """(u - m) / s, the inverse of `transform`."""
        return (value - self.loc) * jnp.exp(-self.log_scale)

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats."""
        return normal_log_prob(self.whiten(value), self.half_log_det())

    def whitened(self, slope: Self) -> tuple[Array, Array]:
        """(s ∘ ∇_m L, ∂L/∂log s): the diagonal of G is the gradient in log s."""
        return jnp.exp(self.log_scale) * slope.loc, slope.log_scale

    def unwhitened(self, slope: Array, excess: Array) -> Self:
        """The gradient in log s is the diagonal of G."""
        return type(self)(slope, excess)

    def excess(self, probes: Array, images: Array) -> Array:
        """The diagonal of G (Bekas, Kokiopoulou and Saad 2007, for random signs)."""
        return jnp.sum(probes * images, axis=0)

    def stepped(self, pull: Array, excess: Array, rho: Scalar | float) -> Self:
        """s² ← s² / (1 - ρ G), m ← m + ρ s² ∇_m L."""
        rho = paced(rho, excess)
        precision = 1.0 - rho * excess
        move = rho * shortened(pull / precision)
        return type(self)(self.loc + jnp.exp(self.log_scale) * move, self.log_scale - 0.5 * jnp.log(precision))

    def affine(self, shift: np.ndarray, scale: np.ndarray, dtype: type = np.float64) -> "MeanField":
        """Shift + scale ∘ u, in the same family."""
        loc = shift + scale * np.asarray(self.loc, float)
        log_scale = np.asarray(self.log_scale, float) + np.log(scale)
        return MeanField(leaf(loc.astype(dtype)), leaf(log_scale.astype(dtype)))

    def covariance(self) -> np.ndarray:
        """diag(s²)."""
        return np.diag(self.scales() ** 2)

    def scales(self) -> np.ndarray:
        """s."""
        return np.exp(np.asarray(self.log_scale, float))

    def host_transform(self, noise: np.ndarray) -> np.ndarray:
        """m + s ∘ ε for rows of ε."""
        return np.asarray(self.loc, float) + self.scales() * noise

    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q for rows."""
        scales = self.scales()
        return normal_log_prob((points - np.asarray(self.loc, float)) / scales, np.log(scales).sum())
