"""The path derivative alone."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.random as jr

from jensen._base.typing import PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel
from jensen._core.family import stopped
from jensen._estimators.pathwise import log_weights


class StickingTheLanding(AbstractEstimator):
    """∇L = E_ε[(∂_z log p - ∂_z log q)|_{z(ε)} ∂z/∂λ]: the score part of ∇log q, of mean zero, is left out.

    Exactly zero for every single draw when q is the posterior, so the noise vanishes at the optimum. Valid for the
    ELBO; for the importance-weighted bound plain sticking is biased (Tucker et al. 2019 give the doubly
    reparameterised form). Roeder, Wu and Duvenaud (2017), equation 8.
    """

    linear_only: ClassVar[bool] = True
    num_draws: int = eqx.field(static=True, default=16)

    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey
    ) -> Scalar:
        """The bound from fresh draws, in nats."""
        frozen = stopped(q)
        draws = jax.vmap(lambda k: q.draw(k, scored_by=frozen))(jr.split(key, self.num_draws))
        return bound(log_weights(model, draws, batch))
