"""A Gaussian on R^D pushed forward onto the latents' support."""

from typing import Any, Self

import jax.numpy as jnp

from jensen._base.errors import UndefinedError
from jensen._base.typing import Array, Latent, Scalar
from jensen._core import AbstractBijection, AbstractReparameterised, Draw


class OnSupport(AbstractReparameterised):
    """z = T(u), u ~ base: log q(z) = log base(T⁻¹(z)) - log |det ∂T/∂u|.

    The entropy over z has no closed form when T is nonlinear; `exact_entropy` is that of the base, whose log density is
    the `log_exact` part of every draw.

    Attributes:
        base: a Gaussian, or for draws and densities alone any location-scale family. bijection: T.
    """

    base: Any
    bijection: AbstractBijection

    @property
    def noise_dim(self) -> int:
        """That of the base."""
        return self.base.noise_dim

    def exact_entropy(self) -> Scalar:
        """H[base] in nats."""
        return self.base.entropy()

    def entropy(self) -> Scalar:
        """Not available in closed form over z; ask `exact_entropy`, or a fit's `decompose` for an estimate."""
        raise UndefinedError(
            "The entropy over the support has no closed form.",
            "",
            "Use exact_entropy, or Fit.decompose for an estimate.",
        )

    def push(self, noise: Array, *, scored_by: Self | None = None) -> Draw:
        """T(loc + S ε) with its log density."""
        base = self.base.push(noise, scored_by=None if scored_by is None else scored_by.base)
        latent, log_det = self.bijection.forward(base.value)
        return Draw(latent, base.log_prob - log_det, jnp.zeros_like(log_det), base.log_exact)

    def log_prob(self, value: Latent) -> Scalar:
        """log q(z) in nats, at values on the support."""
        point, log_det = self.bijection.inverse(value)
        return self.base.log_prob(point) - log_det
