"""A model seen as a density over R^D, optionally in rescaled coordinates, so that Gaussian families fit it directly."""

from typing import Any

import jax.numpy as jnp

from jensen._typing import Flat, Latent, Scalar, Terms
from jensen.core import AbstractBijection, AbstractModel, total


class Affine(AbstractBijection):
    """u = shift + scale ∘ v on R^D."""

    shift: Flat
    scale: Flat

    @property
    def dim(self) -> int:
        """D."""
        return self.shift.shape[-1]

    def forward(self, point: Flat) -> tuple[Latent, Scalar]:
        """The flat vector under the single name `u`, and Σ log scale."""
        return {"u": self.shift + self.scale * point}, jnp.sum(jnp.log(self.scale))

    def inverse(self, latent: Latent) -> tuple[Flat, Scalar]:
        """v and Σ log scale."""
        return (latent["u"] - self.shift) / self.scale, jnp.sum(jnp.log(self.scale))


class Unconstrained(AbstractModel):
    """The log density of `model` over R^D in the coordinates v = (u - shift) / scale.

    Its value at v is log p(x, T(u)) + log|det ∂T| + Σ log scale, so that bounds are the same numbers as for the model.
    With the posterior's own location and spread as shift and scale, one step size suits every model.
    """

    model: AbstractModel
    bijection: Affine

    def log_joint(self, latent: Any, batch: Any = None) -> Terms:
        """One term, the density at the vector v: the latent of this view is v itself."""
        value, log_det = self.bijection.forward(latent)
        return {"log_density": self.model.log_density(value["u"], batch) + log_det}

    def log_density(self, point: Flat, batch: Any = None) -> Scalar:
        """The density at v: the Jacobian of the rescaling is in `log_joint` already."""
        return total(self.log_joint(point, batch))

    def constrain(self, point: Flat) -> Latent:
        """The model's own latents at v."""
        return self.model.constrain(self.bijection.forward(point)[0]["u"])
