"""The auxiliary density that a mixture prior brings with it: Bayes' rule over its own components."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Flat, PRNGKey, Scalar
from jensen._families.gaussian import normal_log_prob
from jensen._hierarchical.family.auxiliary import WHOLE, WIDTH
from jensen._hierarchical.family.components import AbstractComponents
from jensen._hierarchical.family.features import SHARES, flat


class Responsibilities(AbstractComponents):
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

    by_component: ClassVar[bool] = True
    follows: ClassVar[bool] = True

    @classmethod
    def start(cls, count: int, dim: int, inputs: int, seed: int, width: int = WIDTH) -> "Responsibilities":
        """Bayes' rule at the centres, each component as it is."""
        zeros = jnp.asarray(np.zeros((count, dim)))
        return cls.around(zeros, zeros, inputs, seed, width)

    def log_shares(self, found: dict[str, Array]) -> Array:
        """log r(k | z)."""
        return jax.nn.log_softmax(found[SHARES] + self.correction(found))

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term."""
        means = self.mean + self.mean_weight @ flat(found)

        def one(k: Array, mean: Array) -> Scalar:
            component = prior.component(k)
            half_log_det = component.half_log_det() + jnp.sum(self.log_diagonal[k])
            return normal_log_prob(self.whiten(k, component.whiten(point) - mean), half_log_det)

        parts = jax.vmap(one)(jnp.arange(self.logits.shape[0]), means)
        return {WHOLE: jax.nn.logsumexp(self.log_shares(found) + parts)}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """A component at random, which is scored, and a reparameterised point of it."""
        k, value, log_share = self.drawn(key, found)
        return prior.component(k).transform(value), log_share
