"""A model seen as a density over R^D, optionally in rescaled coordinates, so that Gaussian families fit it directly."""

from typing import Any

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jensen._base.typing import Array, Flat, Float, Latent, Scalar, Terms
from jensen._core import AbstractBijection, AbstractModel, total


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


class Linear(AbstractBijection):
    """u = shift + F v on R^D, F lower triangular with a positive diagonal."""

    shift: Flat
    factor: Float[Array, "dim dim"]

    @property
    def dim(self) -> int:
        """D."""
        return self.shift.shape[-1]

    def forward(self, point: Flat) -> tuple[Latent, Scalar]:
        """The flat vector under the single name `u`, and log det F."""
        return {"u": self.shift + self.factor @ point}, jnp.sum(jnp.log(jnp.diagonal(self.factor)))

    def inverse(self, latent: Latent) -> tuple[Flat, Scalar]:
        """v and log det F."""
        point = solve_triangular(self.factor, latent["u"] - self.shift, lower=True)
        return point, jnp.sum(jnp.log(jnp.diagonal(self.factor)))


class Unconstrained(AbstractModel):
    """The log density of `model` over R^D in coordinates v of a linear map: v = (u - shift) / scale, say.

    Its value at v is log p(x, T(u)) + log|det ∂T| + log|det ∂u/∂v|: bounds are the same numbers as for the model.
    With the posterior's own location and spread, one step size suits every model.
    """

    model: AbstractModel
    bijection: Affine | Linear

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
