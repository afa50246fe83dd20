"""The joint normal-Wishart factor."""

import jax
import jax.numpy as jnp

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._families.exponential.wishart import Wishart


class NormalWishart(AbstractExponentialFactor):
    """(z, Λ) with Λ ~ Wishart(ν, R), R the rate, and z | Λ ~ N(m, (κΛ)⁻¹) (Bishop 2006, eq. 10.40 and B.63).

    t = (zᵀΛz, Λz, Λ, log det Λ), η = (-½ κ, κ m, -½ (R + κ m mᵀ), ½ (ν - D)),
    A = A_Wishart(ν, R) + ½ D log(2π / κ). The array of `matrix` need not be symmetric.
    """

    natural: Natural

    def _parameters(self) -> tuple[Array, Array, Wishart]:
        """(κ, m, the factor of Λ)."""
        kappa = -2.0 * self.natural["quadratic"]
        loc = self.natural["product"] / kappa[..., None]
        half = 0.5 * kappa[..., None, None] * loc[..., :, None] * loc[..., None, :]
        matrix = {"matrix": self.natural["matrix"] + half, "logdet": self.natural["logdet"] - 0.5}
        return kappa, loc, Wishart(matrix)

    def log_normalizer(self) -> Array:
        """A(η)."""
        kappa, loc, wishart = self._parameters()
        return wishart.log_normalizer() + 0.5 * loc.shape[-1] * jnp.log(2.0 * jnp.pi / kappa)

    def mean_params(self) -> Natural:
        """(D / κ + ν mᵀR⁻¹m, ν R⁻¹m, ν R⁻¹, E[log det Λ])."""
        kappa, loc, wishart = self._parameters()
        moments = wishart.mean_params()
        product = jnp.einsum("...ij,...j->...i", moments["matrix"], loc)
        quadratic = loc.shape[-1] / kappa + jnp.sum(loc * product, -1)
        return {"quadratic": quadratic, "product": product, **moments}

    def statistics(self, *values: Array) -> Natural:
        """(zᵀΛz, Λz, Λ, log det Λ)."""
        z, matrix = values
        product = jnp.einsum("...ij,...j->...i", matrix, z)
        return {
            "quadratic": jnp.sum(z * product, -1),
            "product": product,
            "matrix": matrix,
            "logdet": jnp.linalg.slogdet(matrix)[1],
        }

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """Λ, then z given Λ."""
        kappa, loc, wishart = self._parameters()
        matrix_key, normal_key = jax.random.split(key)
        (matrix,) = wishart.draw(matrix_key)
        factor = jnp.linalg.cholesky(kappa[..., None, None] * matrix)
        noise = jax.random.normal(normal_key, loc.shape)
        return loc + jax.scipy.linalg.solve_triangular(factor, noise[..., None], trans=1, lower=True)[..., 0], matrix

    def contains(self) -> Array:
        """κ is positive and Λ's own factor proper."""
        kappa, _, wishart = self._parameters()
        return (kappa > 0) & wishart.contains()

    def means(self) -> tuple[Array, ...]:
        """(m, ν R⁻¹)."""
        _, loc, wishart = self._parameters()
        return loc, *wishart.means()

    def variances(self) -> tuple[Array, ...]:
        """(the diagonal of R / κ(ν - D - 1), NaN unless ν > D + 1; those of the Wishart)."""
        kappa, loc, wishart = self._parameters()
        excess = (wishart.concentration - loc.shape[-1] - 1.0)[..., None]
        spread = jnp.diagonal(wishart.rate, axis1=-1, axis2=-2) / kappa[..., None]
        own: Array = spread / jnp.where(excess > 0, excess, 1.0)
        return jnp.where(excess > 0, own, jnp.nan), *wishart.variances()
