"""Auxiliary densities with several modes, or of any shape: mixtures and conditional flows."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.typing import Array, Flat, PRNGKey, Scalar
from jensen._families.flow import Kind, skeleton
from jensen._families.gaussian import normal_log_prob
from jensen._hierarchical.family.auxiliary import WHOLE, WIDTH, AbstractAuxiliary, Gaussian
from jensen._hierarchical.family.components import AbstractComponents
from jensen._hierarchical.family.features import flat


class MixtureAuxiliary(AbstractComponents):
    """r(ψ | z) = Σ_k r(k | z) N(ψ; b_k + W_k f(z), L_k L_kᵀ), r(k | z) = softmax(c + V f(z) + net(z))_k.

    With narrow components in the prior, log q(k | z) is linear in the sufficient statistics of an exponential family,
    of which the features are: this form is exact in that limit. Beyond `DENSE` coordinates the L_k are diagonal.

    Attributes:
        logits, logit_weight: (K,) and (K, F). mean, mean_weight: (K, D) and (K, D, F). log_diagonal, lower: (K, D) and
            (K, D, D), or (K, 0, 0) where diagonal.
    """

    @classmethod
    def start(cls, means: Any, log_scales: Any, inputs: int, seed: int, width: int = WIDTH) -> "MixtureAuxiliary":
        """Components with these means and log scales, (K, D); every one of them equally likely."""
        means = jnp.asarray(means)
        log_diagonal = jnp.broadcast_to(jnp.asarray(log_scales), means.shape) + 0.0
        return cls.around(means, log_diagonal, inputs, seed, width)

    def log_shares(self, found: dict[str, Array]) -> Array:
        """log r(k | z)."""
        return jax.nn.log_softmax(self.correction(found))

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term."""
        del prior
        means = self.mean + self.mean_weight @ flat(found)

        def one(k: Array, mean: Array) -> Scalar:
            return normal_log_prob(self.whiten(k, point - mean), jnp.sum(self.log_diagonal[k]))

        parts = jax.vmap(one)(jnp.arange(self.logits.shape[0]), means)
        return {WHOLE: jax.nn.logsumexp(self.log_shares(found) + parts)}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """A component at random, which is scored, and a reparameterised point of it."""
        del prior
        _, value, log_share = self.drawn(key, found)
        return value, log_share


class FlowAuxiliary(AbstractAuxiliary):
    """r(ψ | z): a Gaussian given z whose whitened coordinates are bent by spline layers that see z.

    ψ = mean(z) + S(z) T(ε; z). Coupling layers, from flowjax: the density of a given ψ costs one pass.

    Attributes:
        gaussian: mean and S. arrays: the layers' parameters.
    """

    local: ClassVar[bool] = False
    gaussian: Gaussian
    arrays: list[Array]
    inputs: int = eqx.field(static=True)
    kind: Kind = eqx.field(static=True, default="coupling")
    layers: int = eqx.field(static=True, default=4)
    knots: int = eqx.field(static=True, default=8)
    width: int = eqx.field(static=True, default=32)

    @classmethod
    def start(cls, dim: int, inputs: int, seed: int) -> "FlowAuxiliary":
        """Close to the standard normal."""
        layers = skeleton("coupling", dim, inputs, 4, 8, 32).start
        rng = np.random.default_rng(seed)
        arrays = [jnp.asarray(x + 0.003 * rng.normal(size=x.shape)) for x in layers]
        return cls(Gaussian.start(dim, inputs, seed), arrays, inputs)

    @property
    def dim(self) -> int:
        """D."""
        return self.gaussian.dim

    def _bijection(self) -> Any:
        return skeleton(self.kind, self.dim, self.inputs, self.layers, self.knots, self.width).bijection(self.arrays)

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term."""
        del prior
        bent, log_det = self.gaussian.whiten(point, found)
        noise, inverse_log_det = self._bijection().inverse_and_log_det(bent, jnp.tanh(flat(found)))
        return {WHOLE: normal_log_prob(noise, log_det) + inverse_log_det}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """mean + S T(ε)."""
        del prior
        noise = jr.normal(key, (self.dim,), self.gaussian.bias.dtype)
        bent, _ = self._bijection().transform_and_log_det(noise, jnp.tanh(flat(found)))
        return self.gaussian.colour(bent, found), jnp.zeros(())
