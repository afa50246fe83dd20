"""The joint factor of a discrete first-order chain: forward-backward by associative scans."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.prefix import prefix_scan

PARALLEL = 4
"""Up to so many values the chain is solved by associative scans, which cost K³ T; step by step, K² T, beyond."""


class DiscreteChain(AbstractExponentialFactor):
    """q(z_1, ..., z_T) ∝ exp(Σ_t θ_t(z_t) + Σ_t θ_t,t+1(z_t, z_t+1)), independent over the other axes.

    t = indicators of values and of neighbouring pairs of values; A = log Σ exp by the forward recursion and E[t] by
    forward-backward (Rabiner 1989), in log space: time and memory are linear in T.

    Attributes:
        natural: `indicator`, (time, independent axes, K); `pair`, (time - 1, independent axes, K, K), earlier first.
        support: the K values.
    """

    natural: Natural
    support: Array | np.ndarray

    def _forward(self) -> Array:
        """Log of the sum over the past, (time, ..., K)."""
        own, pair = self.natural["indicator"], self.natural["pair"]
        if own.shape[-1] > PARALLEL:

            def step(before: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
                after = jax.nn.logsumexp(before[..., :, None] + now[0], -2) + now[1]
                return after, after

            return jnp.concatenate([own[:1], jax.lax.scan(step, own[0], (pair, own[1:]))[1]])
        first = jnp.broadcast_to(own[:1, ..., None, :], (1, *own.shape[1:-1], *pair.shape[-2:]))
        steps = jnp.concatenate([first, pair + own[1:, ..., None, :]])
        return prefix_scan(_log_product, steps)[..., 0, :]

    def _backward(self) -> Array:
        """Log of the sum over the future, (time, ..., K)."""
        own, pair = self.natural["indicator"], self.natural["pair"]
        steps, end = pair + own[1:, ..., None, :], jnp.zeros_like(own[:1])
        if own.shape[-1] > PARALLEL:

            def step(after: Array, now: Array) -> tuple[Array, Array]:
                before = jax.nn.logsumexp(now + after[..., None, :], -1)
                return before, before

            return jnp.concatenate([jax.lax.scan(step, end[0], steps, reverse=True)[1], end])
        products = prefix_scan(lambda a, b: _log_product(b, a), steps, reverse=True)
        return jnp.concatenate([jax.nn.logsumexp(products, -1), end])

    def log_normalizer(self) -> Array:
        """A(η), one entry for each independent chain."""
        return jax.nn.logsumexp(self._forward()[-1], -1)

    def mean_params(self) -> Natural:
        """Probabilities of values and of neighbouring pairs."""
        forward, backward = self._forward(), self._backward()
        total = jax.nn.logsumexp(forward[-1], -1)
        ahead = self.natural["indicator"][1:] + backward[1:]
        pairs = forward[:-1, ..., :, None] + self.natural["pair"] + ahead[..., None, :]
        return {
            "indicator": jnp.exp(forward + backward - total[..., None]),
            "pair": jnp.exp(pairs - total[..., None, None]),
        }

    def statistics(self, *values: Array) -> Natural:
        """Indicators of values and of neighbouring pairs."""
        ones = (values[0][..., None] == self.support).astype(self.natural["indicator"].dtype)
        return {"indicator": ones, "pair": ones[:-1, ..., :, None] * ones[1:, ..., None, :]}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """Backward sampling: z_T, then each state given the next one."""
        forward, pair = self._forward(), self.natural["pair"]
        keys = jax.random.split(key, len(forward))
        last = jax.random.categorical(keys[-1], forward[-1], -1)

        def step(after: Array, now: tuple[Array, Array, PRNGKey]) -> tuple[Array, Array]:
            own, link, key = now
            chosen = jnp.take_along_axis(link, after[..., None, None], -1)[..., 0]
            place = jax.random.categorical(key, own + chosen, -1)
            return place, place

        places = jax.lax.scan(step, last, (forward[:-1], pair, keys[:-1]), reverse=True)[1]
        return (jnp.asarray(self.support)[jnp.concatenate([places, last[None]])],)

    def contains(self) -> Array:
        """Some path has positive probability."""
        return jnp.isfinite(self.log_normalizer())

    def means(self) -> tuple[Array, ...]:
        """Σ v p(v)."""
        probs = self.mean_params()["indicator"]
        return (probs @ jnp.asarray(self.support, probs.dtype),)

    def variances(self) -> tuple[Array, ...]:
        """Σ v² p(v) - mean²."""
        probs = self.mean_params()["indicator"]
        support = jnp.asarray(self.support, probs.dtype)
        return (probs @ support**2 - (probs @ support) ** 2,)


def _log_product(left: Array, right: Array) -> Array:
    """log(exp(left) exp(right)) of matrices."""
    return jax.nn.logsumexp(left[..., :, :, None] + right[..., None, :, :], -2)
