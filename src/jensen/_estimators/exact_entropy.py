"""Monte Carlo energy, closed-form entropy."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.random as jr

from jensen._base.typing import PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel, total
from jensen._estimators.pathwise import log_weights


class ExactEntropy(AbstractEstimator):
    """∇L = E_ε ∇log p(x, z(ε)) + ∇H[q], the entropy (or its closed-form part) being exact.

    Each log weight is corrected by log q + H, whose mean is zero, so the value is unbiased for the ELBO only: the bound
    must be linear in the log weights. Kucukelbir et al. (2017), equation 6. Lower variance than the total derivative
    far from the optimum, higher than `StickingTheLanding` near it.
    """

    linear_only: ClassVar[bool] = True
    num_draws: int = eqx.field(static=True, default=16)

    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey
    ) -> Scalar:
        """The bound from fresh draws, in nats."""
        draws = jax.vmap(lambda k: q.draw(k))(jr.split(key, self.num_draws))
        return bound(log_weights(model, draws, batch) + jax.vmap(total)(draws.log_exact) + q.exact_entropy())
