"""Doubly reparameterised gradients of bounds that are not linear in the log weights."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._base.errors import OptionError
from jensen._base.typing import PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel
from jensen._core.family import stopped
from jensen._estimators.pathwise import log_weights


class DoublyReparameterised(AbstractEstimator):
    """∇L_K = E Σ_k w̃_k² (∂log w_k / ∂z_k) (∂z_k / ∂λ), w̃ = w / Σw: no score part, so the signal grows with K.

    Tucker, Lawson, Gu and Maddison (2019), equation 8. For any bound B(log w) the factor is ∂B/∂log w_k minus
    ∂²B/∂(log w_k)²: the score part of each draw, reparameterised once more, leaves just that. It is w̃² for L_K,
    α w̃ + (1 - α) w̃² for the Rényi bound, and for the ELBO this is `StickingTheLanding`. Every latent must be
    reparameterised.
    """

    linear_only: ClassVar[bool] = False
    num_draws: int = eqx.field(static=True, default=16)

    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey
    ) -> Scalar:
        """The bound from fresh draws, in nats."""
        frozen = stopped(q)
        draws = jax.vmap(lambda k: q.draw(k, scored_by=frozen))(jr.split(key, self.num_draws))
        if isinstance(draws.log_score, dict) and draws.log_score:
            raise OptionError(
                f"The draws of {', '.join(draws.log_score)} cannot be reparameterised.",
                "Option: estimator.",
                "Use ScoreFunction(pathwise=True), which scores them and reparameterises the rest.",
            )
        log_w = log_weights(model, draws, batch)
        value, share = jax.value_and_grad(bound)(stopped(log_w))
        bent = jnp.diagonal(jax.hessian(bound)(stopped(log_w)))
        return value + jnp.sum((share - bent) * (log_w - stopped(log_w)))
