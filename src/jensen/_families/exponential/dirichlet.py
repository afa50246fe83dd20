"""The Dirichlet factor."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.gamma_draws import log_gamma_draws
from jensen._math.gamma_functions import digamma, gammaln


class Dirichlet(AbstractExponentialFactor):
    """Dirichlet(a) over the last axis: t = log z, η = a - 1, A = Σ log Γ(a_k) - log Γ(Σ a_k)."""

    natural: Natural

    @property
    def concentration(self) -> Array:
        """A = η + 1."""
        return self.natural["log"] + 1.0

    def log_normalizer(self) -> Array:
        """A(η)."""
        a = self.concentration
        return jnp.sum(gammaln(a), -1) - gammaln(jnp.sum(a, -1))

    def mean_params(self) -> Natural:
        """ψ(a_k) - ψ(Σ a)."""
        a = self.concentration
        return {"log": digamma(a) - digamma(jnp.sum(a, -1, keepdims=True))}

    def statistics(self, *values: Array) -> Natural:
        """log z."""
        return {"log": jnp.log(values[0])}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """A Dirichlet draw; shares too small for a number are the smallest that has a log."""
        share = jax.nn.softmax(log_gamma_draws(key, self.concentration), -1)
        return (jnp.maximum(share, jnp.finfo(share.dtype).tiny),)

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`: shares of gamma variables, whose logarithm is that of Gamma(a + 1) plus log U / a."""
        log = np.asarray(self.natural["log"])
        a = log.astype(float) + 1.0
        if not np.all(a > 0):
            return None
        size = (count, *a.shape)
        raised = np.log(rng.standard_gamma(a + 1.0, size)) - rng.standard_exponential(size) / a
        share = np.exp(raised - raised.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        return (np.maximum(share, np.finfo(log.dtype).tiny).astype(log.dtype),)

    def contains(self) -> Array:
        """Every a_k > 0."""
        return jnp.all(self.concentration > 0, -1)

    def mode(self) -> tuple[Array, ...]:
        """η_k / Σ η, at least the smallest number that has a log."""
        weights = self.natural["log"]
        share = weights / jnp.sum(weights, -1, keepdims=True)
        return (jnp.maximum(share, jnp.finfo(share.dtype).tiny),)

    def has_mode(self) -> Array:
        """Every η_k ≥ 0, not all zero."""
        return jnp.all(self.natural["log"] >= 0, -1) & (jnp.sum(self.natural["log"], -1) > 0)

    def means(self) -> tuple[Array, ...]:
        """A / Σ a."""
        a = self.concentration
        return (a / jnp.sum(a, -1, keepdims=True),)

    def variances(self) -> tuple[Array, ...]:
        """m (1 - m) / (Σ a + 1)."""
        (mean,) = self.means()
        return (mean * (1.0 - mean) / (jnp.sum(self.concentration, -1, keepdims=True) + 1.0),)
