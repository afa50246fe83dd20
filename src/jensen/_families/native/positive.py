"""Factors on half lines, intervals and simplices: gamma, beta, Dirichlet, with implicit reparameterisation."""

from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma, gammaln

from jensen._base.typing import Array, PRNGKey
from jensen._families.native.contract import COORDINATES, AbstractFactor, middle_and_spread, three, trigamma
from jensen._math.gamma_draws import log_gamma_draw


class Gamma(AbstractFactor):
    """low + Gamma(shape k, mean m) in the orthogonal chart (log m, log k), on (low, ∞).

    Draws are implicitly reparameterised: ∂z/∂λ = -∂_λF / q (Figurnov, Mohamed and Mnih 2018).
    """

    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    event_dim: ClassVar[int] = 0
    log_mean: Array
    log_shape: Array
    low: float = eqx.field(static=True, default=0.0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.log_mean)

    def sample(self, key: PRNGKey) -> Array:
        """low + m / k · gamma(k)."""
        shape = jnp.exp(self.log_shape)
        scaled = jnp.exp(log_gamma_draw(key, shape) + self.log_mean - self.log_shape)
        return self.low + jnp.maximum(scaled, jnp.finfo(scaled.dtype).tiny)

    def log_prob(self, value: Array) -> Array:
        """K log (k / m) + (k - 1) log z - k z / m - log Γ(k), z counted from low."""
        above, shape = value - self.low, jnp.exp(self.log_shape)
        log_rate = self.log_shape - self.log_mean
        return shape * log_rate + (shape - 1.0) * jnp.log(above) - jnp.exp(log_rate) * above - gammaln(shape)

    def mean(self) -> Array:
        """M."""
        return self.low + jnp.exp(self.log_mean)

    def variance(self) -> Array:
        """m² / k."""
        return jnp.exp(2.0 * self.log_mean - self.log_shape)

    def information(self) -> Self:
        """(k, k² ψ'(k) - k): the chart is orthogonal."""
        shape = jnp.exp(self.log_shape)
        return type(self)(shape, jnp.maximum(shape**2 * trigamma(shape) - shape, 0.5), self.low)

    def entropy(self) -> Array:
        """k - log (k / m) + log Γ(k) + (1 - k) ψ(k)."""
        shape = jnp.exp(self.log_shape)
        return shape - self.log_shape + self.log_mean + gammaln(shape) + (1.0 - shape) * digamma(shape)

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 2

    def nodes(self) -> Array:
        """Where the cube root, nearly normal (Wilson and Hilferty 1931), is at its mean and √3 sd from it."""
        ninth = jnp.exp(-self.log_shape) / 9.0
        root = jnp.maximum(
            three(1.0 - ninth, jnp.sqrt(ninth)), jnp.array([0.05, 0.1, 0.2]).reshape(3, *[1] * ninth.ndim)
        )
        return self.low + jnp.exp(self.log_mean) * root**3

    def statistics(self, value: Array) -> Array:
        """√k (z / m - 1) and k (log z / m - z / m + 1 - ψ(k) + log k), z counted from low: of the order of one."""
        shape, part = jnp.exp(self.log_shape), (value - self.low) * jnp.exp(-self.log_mean)
        second = jnp.log(part) - (part - 1.0) - digamma(shape) + self.log_shape
        return jnp.stack([jnp.sqrt(shape) * (part - 1.0), shape * second], axis=-1)

    def tempered(self, power: float) -> Self:
        """The shape times power, at the same mean."""
        return type(self)(self.log_mean, self.log_shape + np.log(power), self.low)

    def around(self, draws: np.ndarray) -> Self:
        """With the median as its mean, half as wide as the logs of the draws if that is narrower than this member."""
        middle, spread = middle_and_spread(np.log(np.maximum(draws - self.low, 1e-6)))
        log_shape = np.maximum(np.asarray(self.log_shape), -2.0 * np.log(0.5 * spread))
        return type(self)(jnp.asarray(np.clip(middle, -6.0, 6.0)), jnp.asarray(log_shape), self.low)


class Beta(AbstractFactor):
    """low + width · Beta(a, b) in the chart (logit of the mean, log of a + b), on (low, low + width)."""

    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    event_dim: ClassVar[int] = 0
    logit_mean: Array
    log_total: Array
    low: float = eqx.field(static=True, default=0.0)
    width: float = eqx.field(static=True, default=1.0)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.logit_mean)

    def _concentrations(self) -> tuple[Array, Array]:
        total = jnp.exp(self.log_total)
        return total * jax.nn.sigmoid(self.logit_mean), total * jax.nn.sigmoid(-self.logit_mean)

    def sample(self, key: PRNGKey) -> Array:
        """Of two gamma draws, kept a rounding error inside the interval."""
        a, b = self._concentrations()
        logs = log_gamma_draw(key, jnp.stack([a, b]))
        difference = logs[0] - logs[1]
        eps = jnp.finfo(difference.dtype).eps
        return self.low + self.width * jnp.clip(jax.nn.sigmoid(difference), eps, 1.0 - eps)

    def log_prob(self, value: Array) -> Array:
        """(a - 1) log x + (b - 1) log (1 - x) - log B(a, b) - log width."""
        a, b = self._concentrations()
        inside = (value - self.low) / self.width
        parts = (a - 1.0) * jnp.log(inside) + (b - 1.0) * jnp.log1p(-inside)
        return parts - betaln(a, b) - jnp.log(self.width)

    def mean(self) -> Array:
        """low + width a / (a + b)."""
        return self.low + self.width * jax.nn.sigmoid(self.logit_mean)

    def variance(self) -> Array:
        """width² p (1 - p) / (a + b + 1)."""
        a, b = self._concentrations()
        return self.width**2 * a * b / ((a + b) ** 2 * (a + b + 1.0))

    def information(self) -> Self:
        """The diagonal, from the trigamma functions of a, b and a + b."""
        a, b = self._concentrations()
        total, mean = a + b, jax.nn.sigmoid(self.logit_mean)
        slope = total * mean * (1.0 - mean)
        both = a**2 * trigamma(a) + b**2 * trigamma(b) - total**2 * trigamma(total)
        location = slope**2 * (trigamma(a) + trigamma(b))
        return type(self)(location, jnp.maximum(both, 0.25), self.low, self.width)

    def entropy(self) -> Array:
        """log B - (a - 1) ψ(a) - (b - 1) ψ(b) + (a + b - 2) ψ(a + b) + log width."""
        a, b = self._concentrations()
        moments = (a - 1.0) * digamma(a) + (b - 1.0) * digamma(b) - (a + b - 2.0) * digamma(a + b)
        return betaln(a, b) - moments + jnp.log(self.width)

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 2

    def nodes(self) -> Array:
        """Where the logit is at its mean and √3 sd (of 2 at most) from it."""
        a, b = self._concentrations()
        spread = jnp.minimum(jnp.sqrt(trigamma(a) + trigamma(b)), 2.0)
        inside = jax.nn.sigmoid(three(digamma(a) - digamma(b), spread))
        eps = jnp.finfo(inside.dtype).eps
        return self.low + self.width * jnp.clip(inside, eps, 1.0 - eps)

    def statistics(self, value: Array) -> Array:
        """The logit of x over its sd, and a log x + b log (1 - x), less their means; x is the part of the width."""
        a, b = self._concentrations()
        inside = (value - self.low) / self.width
        left = jnp.log(inside) - digamma(a) + digamma(a + b)
        right = jnp.log1p(-inside) - digamma(b) + digamma(a + b)
        spread = jnp.sqrt(trigamma(a) + trigamma(b))
        return jnp.stack([(left - right) / spread, a * left + b * right], axis=-1)

    def tempered(self, power: float) -> Self:
        """The total times power, at the same mean."""
        return type(self)(self.logit_mean, self.log_total + np.log(power), self.low, self.width)


class Dirichlet(AbstractFactor):
    """Dirichlet(α), α = exp(log_total) softmax(0, logits), on the simplex of K entries."""

    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    event_dim: ClassVar[int] = 1
    logits: Array
    log_total: Array

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.log_total)

    def _proportions(self) -> Array:
        first = jnp.zeros_like(self.logits[..., :1])
        return jax.nn.softmax(jnp.concatenate([first, self.logits], axis=-1), axis=-1)

    def _concentration(self) -> Array:
        return jnp.exp(self.log_total)[..., None] * self._proportions()

    def sample(self, key: PRNGKey) -> Array:
        """Normalised gamma draws, kept a rounding error inside the simplex."""
        logs = log_gamma_draw(key, self._concentration())
        value = jax.nn.softmax(logs, axis=-1)
        return jnp.maximum(value, jnp.finfo(value.dtype).tiny)

    def log_prob(self, value: Array) -> Array:
        """Σ (α - 1) log z + log Γ(Σα) - Σ log Γ(α)."""
        alpha = self._concentration()
        parts = (alpha - 1.0) * jnp.log(value) - gammaln(alpha)
        return jnp.sum(parts, axis=-1) + gammaln(jnp.exp(self.log_total))

    def mean(self) -> Array:
        """α / Σα."""
        return self._proportions()

    def variance(self) -> Array:
        """p (1 - p) / (Σα + 1)."""
        p = self._proportions()
        return p * (1.0 - p) / (jnp.exp(self.log_total)[..., None] + 1.0)

    def information(self) -> Self:
        """The diagonal: (αₖ (1 - pₖ))² ψ'(αₖ) + pₖ² Σ_{j≠k} αⱼ² ψ'(αⱼ) for a logit."""
        alpha, p = self._concentration(), self._proportions()
        weight = alpha**2 * trigamma(alpha)
        every = jnp.sum(weight, axis=-1, keepdims=True)
        logits = (1.0 - 2.0 * p) * weight + p**2 * every
        total = jnp.exp(self.log_total)
        scale = every[..., 0] - total**2 * trigamma(total)
        return type(self)(logits[..., 1:], jnp.maximum(scale, 0.25))

    def entropy(self) -> Array:
        """log B(α) + (Σα - K) ψ(Σα) - Σ (α - 1) ψ(α)."""
        alpha, total = self._concentration(), jnp.exp(self.log_total)
        log_beta = jnp.sum(gammaln(alpha), axis=-1) - gammaln(total)
        moments = jnp.sum((alpha - 1.0) * digamma(alpha), axis=-1)
        return log_beta + (total - alpha.shape[-1]) * digamma(total) - moments

    @property
    def interpolated(self) -> int:
        """One for each entry, where they are few."""
        count = self.logits.shape[-1] + 1
        return count if count <= COORDINATES else 0

    def nodes(self) -> Array:
        """The middle, and from there each entry e times as large, or √3 sds where that is more."""
        alpha = self._concentration()
        bumps = jnp.clip(jnp.sqrt(3.0 * trigamma(alpha)), 1.0, 3.0)
        moved = jnp.moveaxis(bumps[..., None] * jnp.eye(alpha.shape[-1]), -2, 0)
        logs = digamma(alpha) + jnp.concatenate([jnp.zeros_like(moved[:1]), moved])
        return jax.nn.softmax(logs, axis=-1)

    def statistics(self, value: Array) -> Array:
        """Log z less its mean."""
        return jnp.log(value) - (digamma(self._concentration()) - digamma(jnp.exp(self.log_total))[..., None])

    def tempered(self, power: float) -> Self:
        """The total times power, at the same mean."""
        return type(self)(self.logits, self.log_total + np.log(power))
