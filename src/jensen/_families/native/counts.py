"""Factors on the counts low, low + 1, ...: Poisson, negative binomial, geometric."""

from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jensen._base.typing import Array, PRNGKey
from jensen._families.native.contract import AbstractFactor, trigamma, two_counts

POISSON = 9.0
"""Log shape from which on a negative binomial is taken for a Poisson: its variance is m (1 + m / 8100)."""


class AbstractCount(AbstractFactor):
    """A factor on low, low + 1, ..., whose one statistic is the count."""

    reparameterised: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    event_dim: ClassVar[int] = 0

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 1

    def nodes(self) -> Array:
        """Two counts an sd apart."""
        return two_counts(self.mean(), self.variance(), self.low)  # type: ignore[attr-defined]

    def statistics(self, value: Array) -> Array:
        """The count less its mean."""
        return (value - self.mean())[..., None]


class Poisson(AbstractCount):
    """low + Poisson(exp(log_rate))."""

    log_rate: Array
    low: int = eqx.field(static=True, default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.log_rate)

    def sample(self, key: PRNGKey) -> Array:
        """A count."""
        return self.low + jax.random.poisson(key, jnp.exp(self.log_rate), self.rows).astype(int)

    def log_prob(self, value: Array) -> Array:
        """K log λ - λ - log k!."""
        k = value - self.low
        return k * self.log_rate - jnp.exp(self.log_rate) - gammaln(k + 1.0)

    def mean(self) -> Array:
        """low + λ."""
        return self.low + jnp.exp(self.log_rate)

    def variance(self) -> Array:
        """λ."""
        return jnp.exp(self.log_rate)

    def information(self) -> Self:
        """λ."""
        return type(self)(jnp.exp(self.log_rate), self.low)


class NegativeBinomial(AbstractCount):
    """low + Poisson(g), g ~ Gamma(shape r, mean m): over-dispersed counts in the orthogonal chart (log m, log r).

    Beyond `POISSON` the shape counts as that: it is the Poisson limit, and differences of log Γ(k + r) lose digits.
    """

    log_mean: Array
    log_shape: Array
    low: int = eqx.field(static=True, default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.log_mean)

    @property
    def _log_shape(self) -> Array:
        return jnp.minimum(self.log_shape, POISSON)

    def sample(self, key: PRNGKey) -> Array:
        """A Poisson draw at a gamma rate."""
        first, second = jax.random.split(key)
        shape = jnp.exp(self._log_shape)
        rate = jnp.exp(jax.random.loggamma(first, shape) + self.log_mean - self._log_shape)
        return self.low + jax.random.poisson(second, rate, self.rows).astype(int)

    def log_prob(self, value: Array) -> Array:
        """log C(k + r - 1, k) + r log r/(m + r) + k log m/(m + r)."""
        k, shape = value - self.low, jnp.exp(self._log_shape)
        log_odds = self.log_mean - self._log_shape
        choices = gammaln(k + shape) - gammaln(shape) - gammaln(k + 1.0)
        return choices - shape * jax.nn.softplus(log_odds) - k * jax.nn.softplus(-log_odds)

    def mean(self) -> Array:
        """low + m."""
        return self.low + jnp.exp(self.log_mean)

    def variance(self) -> Array:
        """M + m² / r."""
        return jnp.exp(self.log_mean) + jnp.exp(2.0 * self.log_mean - self._log_shape)

    def information(self) -> Self:
        """(m r / (m + r), a bound on the shape's part): the latter is that of the gamma rate, seen through counts."""
        mean, shape = jnp.exp(self.log_mean), jnp.exp(self._log_shape)
        gamma = shape**2 * trigamma(shape) - shape
        return type(self)(mean * shape / (mean + shape), jnp.maximum(gamma * mean / (mean + shape), 0.02), self.low)

    def tempered(self, power: float) -> Self:
        """The shape times power, at the same mean."""
        return type(self)(self.log_mean, self._log_shape + np.log(power), self.low)

    def around(self, draws: np.ndarray) -> Self:
        """With the draws' mean."""
        above = np.maximum(np.mean(draws, axis=0) - self.low, 0.1)
        return type(self)(jnp.asarray(np.clip(np.log(above), -2.0, 6.0)), self.log_shape, self.low)


class Geometric(AbstractCount):
    """low + failures before the first success, whose log odds are `logit`."""

    logit: Array
    low: int = eqx.field(static=True, default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.logit)

    def sample(self, key: PRNGKey) -> Array:
        """Floor of log U / log (1 - p)."""
        uniform = jax.random.uniform(key, self.rows, minval=jnp.finfo(jnp.result_type(float)).tiny)
        return self.low + jnp.floor(-jnp.log(uniform) / jax.nn.softplus(self.logit)).astype(int)

    def log_prob(self, value: Array) -> Array:
        """log p + k log (1 - p)."""
        return -jax.nn.softplus(-self.logit) - (value - self.low) * jax.nn.softplus(self.logit)

    def mean(self) -> Array:
        """low + (1 - p) / p."""
        return self.low + jnp.exp(-self.logit)

    def variance(self) -> Array:
        """(1 - p) / p²."""
        return jnp.exp(-self.logit) * (1.0 + jnp.exp(-self.logit))

    def information(self) -> Self:
        """1 - p."""
        return type(self)(jax.nn.sigmoid(-self.logit), self.low)

    def entropy(self) -> Array:
        """-log p - (1 - p) / p log (1 - p)."""
        return jax.nn.softplus(-self.logit) + jnp.exp(-self.logit) * jax.nn.softplus(self.logit)
