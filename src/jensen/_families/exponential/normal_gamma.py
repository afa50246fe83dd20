"""The joint normal-gamma factor."""

import jax
import jax.numpy as jnp

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.gamma_draws import log_gamma_draws
from jensen._math.gamma_functions import digamma, gammaln


class NormalGamma(AbstractExponentialFactor):
    """(z, τ) with τ ~ Gamma(a, b) and z | τ ~ N(m, 1 / κτ), elementwise.

    t = (τ z², τ z, τ, log τ), η = (-½ κ, κ m, -b - ½ κ m², a - ½),
    A = log Γ(a) - a log b + ½ log(2π / κ).
    """

    natural: Natural

    def _parameters(self) -> tuple[Array, Array, Array, Array]:
        """(κ, m, a, b)."""
        kappa = -2.0 * self.natural["tzz"]
        loc = self.natural["tz"] / kappa
        return kappa, loc, self.natural["log"] + 0.5, -self.natural["t"] - 0.5 * kappa * loc**2

    def log_normalizer(self) -> Array:
        """A(η)."""
        kappa, _, a, b = self._parameters()
        return gammaln(a) - a * jnp.log(b) + 0.5 * jnp.log(2.0 * jnp.pi / kappa)

    def mean_params(self) -> Natural:
        """(1 / κ + m² a / b, m a / b, a / b, ψ(a) - log b)."""
        kappa, loc, a, b = self._parameters()
        return {"tzz": 1.0 / kappa + loc**2 * a / b, "tz": loc * a / b, "t": a / b, "log": digamma(a) - jnp.log(b)}

    def statistics(self, *values: Array) -> Natural:
        """(τ z², τ z, τ, log τ)."""
        z, tau = values
        return {"tzz": tau * z**2, "tz": tau * z, "t": tau, "log": jnp.log(tau)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """τ, then z given τ."""
        kappa, loc, a, b = self._parameters()
        gamma_key, normal_key = jax.random.split(key)
        tau = jnp.maximum(jnp.exp(log_gamma_draws(gamma_key, a)) / b, jnp.finfo(a.dtype).tiny)
        return loc + jax.random.normal(normal_key, loc.shape) / jnp.sqrt(kappa * tau), tau

    def contains(self) -> Array:
        """κ, a and b are positive."""
        kappa, _, a, b = self._parameters()
        return (kappa > 0) & (a > 0) & (b > 0)

    def means(self) -> tuple[Array, ...]:
        """(m, a / b)."""
        _, loc, a, b = self._parameters()
        return loc, a / b

    def variances(self) -> tuple[Array, ...]:
        """(b / κ(a - 1), NaN unless a > 1; a / b²)."""
        kappa, _, a, b = self._parameters()
        return jnp.where(a > 1, b / (kappa * jnp.where(a > 1, a - 1.0, 1.0)), jnp.nan), a / b**2
