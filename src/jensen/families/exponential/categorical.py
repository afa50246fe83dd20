"""The categorical factor."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array, PRNGKey
from jensen.families.exponential.contract import AbstractExponentialFactor, Natural


class Categorical(AbstractExponentialFactor):
    """A discrete latent over listed values: t = indicators, η = unnormalised log probabilities, A = logsumexp η.

    Attributes:
        natural: `indicator`, shape (independent axes, K).
        support: the K values.
    """

    natural: Natural
    support: Array | np.ndarray

    @property
    def probs(self) -> Array:
        """Probabilities, shape (independent axes, K)."""
        return jax.nn.softmax(self.natural["indicator"], -1)

    def log_normalizer(self) -> Array:
        """A(η)."""
        return jax.nn.logsumexp(self.natural["indicator"], -1)

    def mean_params(self) -> Natural:
        """The probabilities."""
        return {"indicator": self.probs}

    def statistics(self, *values: Array) -> Natural:
        """One indicator for each value of the support."""
        return {"indicator": (values[0][..., None] == self.support).astype(self.natural["indicator"].dtype)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """A value of the support."""
        return (jnp.asarray(self.support)[jax.random.categorical(key, self.natural["indicator"], -1)],)

    def contains(self) -> Array:
        """Some value has positive probability."""
        return jnp.isfinite(self.log_normalizer())

    def means(self) -> tuple[Array, ...]:
        """Σ v p(v)."""
        return (self.probs @ jnp.asarray(self.support, self.probs.dtype),)

    def variances(self) -> tuple[Array, ...]:
        """Σ v² p(v) - mean²."""
        support = jnp.asarray(self.support, self.probs.dtype)
        return (self.probs @ support**2 - self.means()[0] ** 2,)
