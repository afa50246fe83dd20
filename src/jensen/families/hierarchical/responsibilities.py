"""The auxiliary density that a mixture prior brings with it: Bayes' rule over its own components."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
import numpy as np

from jensen._typing import Array, Flat, PRNGKey, Scalar
from jensen.families.gaussian import normal_log_prob
from jensen.families.hierarchical.auxiliary import WHOLE, WIDTH, AbstractAuxiliary
from jensen.families.hierarchical.features import SHARES, Network, flat

DENSE = 32
"""Coordinates up to which the components' covariances are full."""


class Responsibilities(AbstractAuxiliary):
    """r(ψ | z) = Σ_k r(k | z) r_k(ψ | z), the reverse of a mixture prior Σ_k π_k N(m_k, C_k C_kᵀ).

    r(k | z) ∝ π_k q(z | λ at m_k) exp(c_k + v_k·f(z) + net_k(z)): Bayes' rule with each component at its centre, and a
    trained correction for their widths. ψ = m_k + C_k v with v ~ N(b_k + W_k f(z), M_k M_kᵀ) under r_k: the component
    itself at the start. So r follows the prior wherever it moves, without having to learn it, and the bound is tight
    in the limit of narrow components (where q is a mixture of products) from the first step on. Beyond `DENSE`
    coordinates the M_k are diagonal.

    Attributes:
        logits, logit_weight: c (K,) and v (K, F). mean, mean_weight: b (K, D) and W (K, D, F). log_diagonal, lower:
            those of M, (K, D) and (K, D, D), or (K, 0, 0) where diagonal.
    """

    local: ClassVar[bool] = False
    by_component: ClassVar[bool] = True
    logits: Array
    logit_weight: Array
    mean: Array
    mean_weight: Array
    log_diagonal: Array
    lower: Array
    network: dict[str, Array]

    @classmethod
    def start(cls, count: int, dim: int, inputs: int, seed: int, width: int = WIDTH) -> "Responsibilities":
        """Bayes' rule at the centres, each component as it is."""
        dense = dim if dim <= DENSE else 0
        network = Network.start(np.random.default_rng(seed), inputs, width, count)
        return cls(
            jnp.zeros(count),
            jnp.zeros((count, inputs)),
            jnp.zeros((count, dim)),
            jnp.zeros((count, dim, inputs)),
            jnp.zeros((count, dim)),
            jnp.zeros((count, dense, dense)),
            network,
        )

    @property
    def dim(self) -> int:
        """D."""
        return self.mean.shape[-1]

    def log_shares(self, found: dict[str, Array]) -> Array:
        """log r(k | z)."""
        x = flat(found)
        correction = self.logits + self.logit_weight @ x + Network.at(self.network, x)
        return jax.nn.log_softmax(found[SHARES] + correction)

    def _root(self, k: Any) -> Array:
        return jnp.tril(self.lower[k], -1) + jnp.diag(jnp.exp(self.log_diagonal[k]))

    def _whiten(self, k: Any, gap: Array) -> Array:
        if not self.lower.shape[-1]:
            return gap * jnp.exp(-self.log_diagonal[k])
        return jsl.solve_triangular(self._root(k), gap, lower=True)

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term."""
        means = self.mean + self.mean_weight @ flat(found)

        def one(k: Array, mean: Array) -> Scalar:
            component = prior.component(k)
            half_log_det = component.half_log_det() + jnp.sum(self.log_diagonal[k])
            return normal_log_prob(self._whiten(k, component.whiten(point) - mean), half_log_det)

        parts = jax.vmap(one)(jnp.arange(self.logits.shape[0]), means)
        return {WHOLE: jax.nn.logsumexp(self.log_shares(found) + parts)}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """A component at random, which is scored, and a reparameterised point of it."""
        first, second = jr.split(key)
        log_shares = self.log_shares(found)
        k = jr.categorical(first, jax.lax.stop_gradient(log_shares))
        noise = jr.normal(second, (self.dim,), self.mean.dtype)
        spread = self._root(k) @ noise if self.lower.shape[-1] else jnp.exp(self.log_diagonal[k]) * noise
        return prior.component(k).transform(self.mean[k] + self.mean_weight[k] @ flat(found) + spread), log_shares[k]

    def scores(self, prior: Any) -> bool:
        """The component."""
        del prior
        return True
