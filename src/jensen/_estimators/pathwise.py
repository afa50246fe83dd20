"""Reparameterisation gradients with the total derivative."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.random as jr

from jensen._base.typing import PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel, Draw, total


class Pathwise(AbstractEstimator):
    """∇L = E_ε ∇[log p(x, z(ε)) - log q(z(ε))]: differentiate through the draw and through log q.

    Unbiased for the ELBO and for the importance-weighted bound. Kingma and Welling (2014), equation 6;
    Rezende, Mohamed and Wierstra (2014). Cost: `num_draws` gradients of the log joint.
    """

    linear_only: ClassVar[bool] = False
    num_draws: int = eqx.field(static=True, default=16)

    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey
    ) -> Scalar:
        """The bound from fresh draws, in nats."""
        draws = jax.vmap(lambda k: q.draw(k))(jr.split(key, self.num_draws))
        return bound(log_weights(model, draws, batch))


def log_weights(model: AbstractModel, draws: Draw, batch: Any) -> jax.Array:
    """log p(x, z_s) - log q(z_s) for stacked draws, in nats."""
    log_joint = jax.vmap(lambda value: total(model.log_joint(value, batch)))(draws.value)
    return log_joint - jax.vmap(total)(draws.log_prob)
