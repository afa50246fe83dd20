"""The Wishart and inverse Wishart factors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.gamma_functions import digamma, gammaln


class Wishart(AbstractExponentialFactor):
    """Wishart(ν, R) with rate R (the inverse scale): t = (Z, log det Z), η = (-½ R, ½(ν - D - 1)).

    A = ½ ν D log 2 + log Γ_D(ν / 2) - ½ ν log det R. With `inverted`, Z⁻¹ is Wishart(ν, R): t = (Z⁻¹, log det Z),
    η = (-½ R, -½(ν + D + 1)) and the same A. The array of `matrix` need not be symmetric.
    """

    natural: Natural
    inverted: bool = eqx.field(static=True, default=False)

    @property
    def dim(self) -> int:
        """D."""
        return self.natural["matrix"].shape[-1]

    @property
    def rate(self) -> Array:
        """R, shape (..., D, D)."""
        half = self.natural["matrix"]
        return -(half + jnp.swapaxes(half, -1, -2))

    @property
    def concentration(self) -> Array:
        """ν."""
        if self.inverted:
            return -2.0 * self.natural["logdet"] - self.dim - 1.0
        return 2.0 * self.natural["logdet"] + self.dim + 1.0

    def _roots(self) -> tuple[Array, Array]:
        """(L⁻¹, log det R) with R = L Lᵀ."""
        factor = jnp.linalg.cholesky(self.rate)
        eye = jnp.broadcast_to(jnp.eye(self.dim, dtype=factor.dtype), factor.shape)
        root = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
        return root, 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-1, axis2=-2)), -1)

    @property
    def scale(self) -> Array:
        """R⁻¹, shape (..., D, D)."""
        root, _ = self._roots()
        return jnp.swapaxes(root, -1, -2) @ root

    def solved(self) -> tuple[Natural, Array]:
        """((ν R⁻¹, ±(Σ_i ψ((ν - i) / 2) + D log 2 - log det R)), A(η))."""
        nu, (root, log_det_rate) = self.concentration, self._roots()
        orders = (nu[..., None] - np.arange(self.dim)) / 2.0
        log_det = jnp.sum(digamma(orders), -1) + self.dim * np.log(2.0) - log_det_rate
        matrix = nu[..., None, None] * (jnp.swapaxes(root, -1, -2) @ root)
        log_gamma = jnp.sum(gammaln(orders), -1) + 0.25 * self.dim * (self.dim - 1) * np.log(np.pi)
        size = 0.5 * nu * (self.dim * np.log(2.0) - log_det_rate) + log_gamma
        return {"matrix": matrix, "logdet": -log_det if self.inverted else log_det}, size

    def log_normalizer(self) -> Array:
        """A(η)."""
        return self.solved()[1]

    def mean_params(self) -> Natural:
        """(ν R⁻¹, ±(Σ_i ψ((ν - i) / 2) + D log 2 - log det R))."""
        return self.solved()[0]

    def statistics(self, *values: Array) -> Natural:
        """(Z or Z⁻¹, log det Z)."""
        (z,) = values
        return {"matrix": jnp.linalg.inv(z) if self.inverted else z, "logdet": jnp.linalg.slogdet(z)[1]}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """Bartlett's decomposition: Z = L⁻ᵀ A Aᵀ L⁻¹ with A lower triangular, A_ii² ~ χ²(ν - i)."""
        normal_key, gamma_key = jax.random.split(key)
        root, _ = self._roots()
        below = jnp.tril(jax.random.normal(normal_key, root.shape), -1)
        orders = (self.concentration[..., None] - jnp.arange(self.dim)) / 2.0
        diagonal = jnp.sqrt(2.0 * jax.random.gamma(gamma_key, orders))
        factor = jnp.swapaxes(root, -1, -2) @ (below + diagonal[..., None] * jnp.eye(self.dim))
        z = factor @ jnp.swapaxes(factor, -1, -2)
        return (jnp.linalg.inv(z) if self.inverted else z,)

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`."""
        half = np.asarray(self.natural["matrix"])
        nu, rate = np.asarray(self.concentration, float), -(half + half.swapaxes(-1, -2)).astype(float)
        orders = (nu[..., None] - np.arange(self.dim)) / 2.0
        if not (np.all(orders > 0) and np.isfinite(rate).all() and np.all(np.linalg.eigvalsh(rate) > 0)):
            return None
        below = np.tril(rng.normal(size=(count, *half.shape)), -1)
        places = np.arange(self.dim)
        below[..., places, places] = np.sqrt(2.0 * rng.standard_gamma(orders, (count, *orders.shape)))
        factor = np.linalg.inv(np.linalg.cholesky(rate)).swapaxes(-1, -2) @ below
        z = factor @ factor.swapaxes(-1, -2)
        return ((np.linalg.inv(z) if self.inverted else z).astype(half.dtype),)

    def contains(self) -> Array:
        """ν > D - 1 and R positive definite."""
        return (self.concentration > self.dim - 1) & jnp.all(jnp.isfinite(self._roots()[0]), (-1, -2))

    def _sign(self) -> Array:
        """±η₂: what multiplies the log determinant of the matrix whose rate is R."""
        return -self.natural["logdet"] if self.inverted else self.natural["logdet"]

    def mode(self) -> tuple[Array, ...]:
        """2 η₂ R⁻¹, or R / (-2 η₂) when inverted."""
        twice = 2.0 * self._sign()[..., None, None]
        return (self.rate / twice if self.inverted else twice * self.scale,)

    def mode_params(self) -> Natural:
        """(Z* or its inverse, log det Z*) from one Cholesky factor."""
        root, log_det_rate = self._roots()
        twice = 2.0 * self._sign()
        log_det = self.dim * jnp.log(twice) - log_det_rate
        matrix = twice[..., None, None] * (jnp.swapaxes(root, -1, -2) @ root)
        return {"matrix": matrix, "logdet": -log_det if self.inverted else log_det}

    def has_mode(self) -> Array:
        """±η₂ > 0 and R positive definite."""
        return (self._sign() > 0) & jnp.all(jnp.isfinite(self._roots()[0]), (-1, -2))

    def means(self) -> tuple[Array, ...]:
        """ν R⁻¹, or R / (ν - D - 1) when inverted (NaN unless ν > D + 1)."""
        nu = self.concentration[..., None, None]
        if not self.inverted:
            return (nu * self.scale,)
        excess = nu - self.dim - 1.0
        return (jnp.where(excess > 0, self.rate / jnp.where(excess > 0, excess, 1.0), jnp.nan),)

    def variances(self) -> tuple[Array, ...]:
        """ν (S_ij² + S_ii S_jj) with S = R⁻¹; when inverted, by the inverse Wishart formula (NaN unless ν > D + 3)."""
        nu, dim = self.concentration[..., None, None], self.dim
        matrix = self.rate if self.inverted else self.scale
        diagonal = jnp.diagonal(matrix, axis1=-1, axis2=-2)
        crossed = diagonal[..., :, None] * diagonal[..., None, :]
        if not self.inverted:
            return (nu * (matrix**2 + crossed),)
        top = (nu - dim + 1.0) * matrix**2 + (nu - dim - 1.0) * crossed
        bottom = (nu - dim) * (nu - dim - 1.0) ** 2 * (nu - dim - 3.0)
        own: Array = top / bottom
        return (jnp.where(nu > dim + 3.0, own, jnp.nan),)
