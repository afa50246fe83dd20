"""The categorical factor of discrete latents that each stand for several exchangeable copies."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural


class CategoricalCopies(AbstractExponentialFactor):
    """w independent latents z_1, ..., z_w of one distribution r: the w equal tokens of a word in a document, say.

    η = (log potentials of all copies together, w); A = w log Σ_k exp(η_k / w), whose gradient is
    (r, H[r]) with r = softmax(η / w). The mean parameter that belongs to w is the entropy of one copy, so that the
    entropy of all copies is w · H[r] in the expected log joint, and ⟨η, E[t]⟩ holds it: `entropy` of the factor is
    zero. w may be any positive number; where w = 0 there is no latent and r is uniform.

    Attributes:
        natural: `indicator`, shape (independent axes, K); `copies`, shape (independent axes).
        support: the K values.
    """

    natural: Natural
    support: Array | np.ndarray

    def _logits(self) -> Array:
        """η / w, zero where w is."""
        weight = self.natural["copies"][..., None]
        some = weight > 0
        return jnp.where(some, self.natural["indicator"], 0.0) / jnp.where(some, weight, 1.0)

    @property
    def probs(self) -> Array:
        """Probabilities r of one copy, shape (independent axes, K)."""
        return jax.nn.softmax(self._logits(), -1)

    def log_normalizer(self) -> Array:
        """A(η)."""
        return self.natural["copies"] * jax.nn.logsumexp(self._logits(), -1)

    def mean_params(self) -> Natural:
        """(r, H[r])."""
        logits = self._logits()
        probs = jax.nn.softmax(logits, -1)
        spread = jnp.sum(jnp.where(probs > 0, probs * logits, 0.0), -1)
        return {"indicator": probs, "copies": jax.nn.logsumexp(logits, -1) - spread}

    def statistics(self, *values: Array) -> Natural:
        """Indicators of one copy's value, whose distribution then has no entropy."""
        found = (values[0][..., None] == self.support).astype(self.natural["indicator"].dtype)
        return {"indicator": found, "copies": jnp.zeros(values[0].shape, found.dtype)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """The value of one copy."""
        return (jnp.asarray(self.support)[jax.random.categorical(key, self._logits(), -1)],)

    def contains(self) -> Array:
        """Some value has positive probability; where w is zero nothing depends on the latent."""
        weight, logits = self.natural["copies"], self.natural["indicator"]
        unused = (weight == 0) & jnp.all(logits == logits[..., :1], -1)
        return jnp.isfinite(self.log_normalizer()) & ((weight > 0) | unused)

    def means(self) -> tuple[Array, ...]:
        """Σ v r(v)."""
        return (self.probs @ jnp.asarray(self.support, self.probs.dtype),)

    def variances(self) -> tuple[Array, ...]:
        """Σ v² r(v) - mean²."""
        support = jnp.asarray(self.support, self.probs.dtype)
        return (self.probs @ support**2 - self.means()[0] ** 2,)
