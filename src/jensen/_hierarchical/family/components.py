"""Auxiliary densities with several Gaussian components, whose shares depend on the latents."""

import abc
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
import numpy as np

from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._hierarchical.family.auxiliary import WIDTH, AbstractAuxiliary
from jensen._hierarchical.family.features import Network, flat

DENSE = 32
"""Coordinates up to which the components' covariances are full."""


class AbstractComponents(AbstractAuxiliary):
    """v ~ Σ_k r(k | z) N(b_k + W_k f(z), M_k M_kᵀ). Beyond `DENSE` coordinates the M_k are diagonal.

    Attributes:
        logits, logit_weight: (K,) and (K, F). mean, mean_weight: b (K, D) and W (K, D, F). log_diagonal, lower: those
            of M, (K, D) and (K, D, D), or (K, 0, 0) where diagonal. network: of the shares.
    """

    local: ClassVar[bool] = False
    logits: Array
    logit_weight: Array
    mean: Array
    mean_weight: Array
    log_diagonal: Array
    lower: Array
    network: dict[str, Array]

    @classmethod
    def around(cls, means: Array, log_diagonal: Array, inputs: int, seed: int, width: int = WIDTH) -> Self:
        """Components with these means and log scales, (K, D), whatever z; the shares uncorrected."""
        count, dim = means.shape
        dense = dim if dim <= DENSE else 0
        network = Network.start(np.random.default_rng(seed), inputs, width, count)
        zeros = (
            np.zeros(count),
            np.zeros((count, inputs)),
            np.zeros((count, dim, inputs)),
            np.zeros((count, dense, dense)),
        )
        logits, logit_weight, weight, lower = (jnp.asarray(zero) for zero in zeros)
        return cls(logits, logit_weight, jnp.asarray(means), weight, jnp.asarray(log_diagonal), lower, network)

    @property
    def dim(self) -> int:
        """D."""
        return self.mean.shape[-1]

    @abc.abstractmethod
    def log_shares(self, found: dict[str, Array]) -> Array:
        """log r(k | z)."""

    def correction(self, found: dict[str, Array]) -> Array:
        """c + V f(z) + net(z), (K,)."""
        x = flat(found)
        return self.logits + self.logit_weight @ x + Network.at(self.network, x)

    def whiten(self, k: Any, gap: Array) -> Array:
        """M_k⁻¹ of a distance from the mean."""
        if not self.lower.shape[-1]:
            return gap * jnp.exp(-self.log_diagonal[k])
        return jsl.solve_triangular(self._root(k), gap, lower=True)

    def _root(self, k: Any) -> Array:
        return jnp.tril(self.lower[k], -1) + jnp.diag(jnp.exp(self.log_diagonal[k]))

    def drawn(self, key: PRNGKey, found: dict[str, Array]) -> tuple[Array, Array, Scalar]:
        """(k at random, a reparameterised v of component k, log r(k | z))."""
        first, second = jr.split(key)
        log_shares = self.log_shares(found)
        k = jr.categorical(first, jax.lax.stop_gradient(log_shares))
        noise = jr.normal(second, (self.dim,), self.mean.dtype)
        spread = self._root(k) @ noise if self.lower.shape[-1] else jnp.exp(self.log_diagonal[k]) * noise
        return k, self.mean[k] + self.mean_weight[k] @ flat(found) + spread, log_shares[k]

    def scores(self, prior: Any) -> bool:
        """The component."""
        del prior
        return True
