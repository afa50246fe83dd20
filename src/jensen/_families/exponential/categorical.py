"""The categorical factor."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural


class Categorical(AbstractExponentialFactor):
    """A discrete latent over listed values: t = indicators, η = unnormalised log probabilities, A = logsumexp η.

    Attributes:
        natural: `indicator`, shape (independent axes, K).
        support: the K values.
        axis: the axis of the K values: -1, or 0 where many independent rows come last, along which machines are fast.
    """

    natural: Natural
    support: Array | np.ndarray
    axis: int = eqx.field(static=True, default=-1)

    @property
    def probs(self) -> Array:
        """Probabilities, shape (independent axes, K)."""
        return jax.nn.softmax(self.natural["indicator"], self.axis)

    def solved(self) -> tuple[Natural, Array]:
        """(probabilities, A(η)), from the same exponentials."""
        logits = self.natural["indicator"]
        top = jnp.max(logits, self.axis, keepdims=True)
        top = jnp.where(jnp.isfinite(top), top, 0.0)
        weights = jnp.exp(logits - top)
        total = jnp.sum(weights, self.axis, keepdims=True)
        return {"indicator": weights * (1.0 / total)}, jnp.squeeze(top + jnp.log(total), self.axis)

    def log_normalizer(self) -> Array:
        """A(η)."""
        return jax.nn.logsumexp(self.natural["indicator"], self.axis)

    def mean_params(self) -> Natural:
        """The probabilities."""
        return {"indicator": self.probs}

    def statistics(self, *values: Array) -> Natural:
        """One indicator for each value of the support."""
        found = (values[0][..., None] == self.support).astype(self.natural["indicator"].dtype)
        return {"indicator": jnp.moveaxis(found, -1, self.axis)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """A value of the support: one uniform number for each, looked up in the running sum of the probabilities."""
        reached = jnp.cumsum(self.probs, self.axis)
        total = jnp.take(reached, jnp.array([-1]), self.axis)
        place = jax.random.uniform(key, total.shape, total.dtype) * total
        index = jnp.sum(reached <= place, self.axis)
        return (jnp.asarray(self.support)[jnp.minimum(index, reached.shape[self.axis] - 1)],)

    def contains(self) -> Array:
        """Some value has positive probability."""
        return jnp.isfinite(jnp.max(self.natural["indicator"], self.axis))

    def means(self) -> tuple[Array, ...]:
        """Σ v p(v)."""
        return (self._mean(jnp.asarray(self.support, self.probs.dtype)),)

    def _mean(self, values: Array) -> Array:
        return jnp.moveaxis(self.probs, self.axis, -1) @ values

    def variances(self) -> tuple[Array, ...]:
        """Σ v² p(v) - mean²."""
        support = jnp.asarray(self.support, self.probs.dtype)
        return (self._mean(support**2) - self.means()[0] ** 2,)
