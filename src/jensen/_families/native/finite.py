"""Factors on finite sets: Bernoulli, categorical, binomial."""

from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from jensen._base.typing import Array, PRNGKey
from jensen._families.native.contract import SMALL, AbstractFactor, AbstractFreeForm, two_counts

TINY = 1e-30


class Bernoulli(AbstractFreeForm):
    """Z ∈ {0, 1} with log odds `logit`."""

    reparameterised: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    event_dim: ClassVar[int] = 0
    logit: Array

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.logit)

    def sample(self, key: PRNGKey) -> Array:
        """Bits, as integers."""
        return jax.random.bernoulli(key, self.mean()).astype(int)

    def log_prob(self, value: Array) -> Array:
        """Z · logit - log(1 + e^logit)."""
        return value * self.logit - jax.nn.softplus(self.logit)

    def mean(self) -> Array:
        """P(z = 1)."""
        return jax.nn.sigmoid(self.logit)

    def variance(self) -> Array:
        """p (1 - p)."""
        return self.mean() * jax.nn.sigmoid(-self.logit)

    def information(self) -> Self:
        """p (1 - p)."""
        return type(self)(self.variance())

    def entropy(self) -> Array:
        """log(1 + e^logit) - p · logit."""
        return jax.nn.softplus(self.logit) - self.mean() * self.logit

    def tempered(self, power: float) -> Self:
        """The log odds times power."""
        return type(self)(power * self.logit)

    def support(self) -> Array:
        """(0, 1)."""
        return jnp.arange(2)

    def with_log_masses(self, log_masses: Array) -> Self:
        """The factor of these masses, up to a constant for each row."""
        return type(self)(log_masses[..., 1] - log_masses[..., 0])

    def coordinate_step(self, slope: Self, fraction: Array | float) -> Self:
        """The logit moves by the gradient over p (1 - p)."""
        return type(self)(self.logit + fraction * slope.logit / jnp.maximum(self.variance(), TINY))


class Categorical(AbstractFreeForm):
    """Z ∈ {low, ..., low + K - 1} with the softmax of K logits; the gauge is free."""

    reparameterised: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    event_dim: ClassVar[int] = 0
    logits: Array
    low: int = eqx.field(static=True, default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.logits)[:-1]

    def sample(self, key: PRNGKey) -> Array:
        """An index, counted from low."""
        return self.low + jax.random.categorical(key, self.logits)

    def log_prob(self, value: Array) -> Array:
        """The normalised logit of z."""
        chosen = jax.nn.one_hot(value - self.low, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(chosen * self.log_masses(), axis=-1)

    def log_masses(self) -> Array:
        """Normalised logits."""
        return jax.nn.log_softmax(self.logits, axis=-1)

    def mean(self) -> Array:
        """Σ k p_k."""
        return self.low + jnp.sum(jnp.exp(self.log_masses()) * jnp.arange(self.logits.shape[-1]), axis=-1)

    def variance(self) -> Array:
        """Σ k² p_k - (Σ k p_k)²."""
        index = self.low + jnp.arange(self.logits.shape[-1])
        return jnp.sum(jnp.exp(self.log_masses()) * (index - self.mean()[..., None]) ** 2, axis=-1)

    def information(self) -> Self:
        """p (1 - p)."""
        p = jnp.exp(self.log_masses())
        return type(self)(p * (1.0 - p), self.low)

    def entropy(self) -> Array:
        """-Σ p log p."""
        return -jnp.sum(jnp.exp(self.log_masses()) * self.log_masses(), axis=-1)

    def tempered(self, power: float) -> Self:
        """The logits times power."""
        return type(self)(power * self.logits, self.low)

    def support(self) -> Array | None:
        """Low .. low + K - 1."""
        count = self.logits.shape[-1]
        return self.low + jnp.arange(count) if count <= SMALL else None

    def with_log_masses(self, log_masses: Array) -> Self:
        """The factor of these masses, up to a constant for each row."""
        return type(self)(log_masses - jnp.max(log_masses, axis=-1, keepdims=True), self.low)

    def coordinate_step(self, slope: Self, fraction: Array | float) -> Self:
        """The logits move by the gradient over p."""
        masses = self.log_masses()
        return self.with_log_masses(masses + fraction * slope.logits / jnp.maximum(jnp.exp(masses), TINY))


class Binomial(AbstractFactor):
    """low + Binomial(count, p) with log odds `logit`: a long finite range with one parameter."""

    reparameterised: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    event_dim: ClassVar[int] = 0
    logit: Array
    count: int = eqx.field(static=True)
    low: int = eqx.field(static=True, default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.logit)

    def sample(self, key: PRNGKey) -> Array:
        """Successes, counted from low."""
        drawn = jax.random.binomial(
            key, float(self.count), jax.nn.sigmoid(self.logit), shape=self.rows, dtype=self.logit.dtype
        )
        return self.low + drawn.astype(int)

    def log_prob(self, value: Array) -> Array:
        """log C(n, k) + k · logit - n log(1 + e^logit)."""
        k = value - self.low
        choices = gammaln(self.count + 1.0) - gammaln(k + 1.0) - gammaln(self.count - k + 1.0)
        return choices + k * self.logit - self.count * jax.nn.softplus(self.logit)

    def mean(self) -> Array:
        """low + n p."""
        return self.low + self.count * jax.nn.sigmoid(self.logit)

    def variance(self) -> Array:
        """n p (1 - p)."""
        return self.count * jax.nn.sigmoid(self.logit) * jax.nn.sigmoid(-self.logit)

    def information(self) -> Self:
        """n p (1 - p)."""
        return type(self)(self.variance(), self.count, self.low)

    def entropy(self) -> Array | None:
        """By the sum over a small range."""
        if self.count >= SMALL:
            return None
        masses = self.log_masses()
        return -jnp.sum(jnp.exp(masses) * masses, axis=-1)

    def support(self) -> Array | None:
        """Low .. low + n."""
        return self.low + jnp.arange(self.count + 1) if self.count < SMALL else None

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 1

    def nodes(self) -> Array:
        """Two counts an sd apart."""
        return two_counts(self.mean(), self.variance(), self.low, self.low + self.count)

    def statistics(self, value: Array) -> Array:
        """The count less its mean."""
        return (value - self.mean())[..., None]
