"""A deterministic objective from fixed base draws."""

from typing import Any, ClassVar

import jax

from jensen._base.typing import Array, Float, PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel, AbstractReparameterised, total
from jensen._estimators.pathwise import log_weights


class FixedDraws(AbstractEstimator):
    """L̂(λ | Z) = (1/M) Σ_m log p(x, z(λ, ε_m)) + H[q_λ] for the same noise ε_1..ε_M at every λ.

    A smooth deterministic function, so second-order optimisers, exact convergence tests and linear response apply.
    Use mean-field families: with a full-rank family and M ≤ D draws the objective has no maximum, and it overfits until
    M is many times D. Giordano, Ingram and Broderick (2023), equation 4; make the noise with
    `jensen._math.noise.symmetric_draws`.
    """

    linear_only: ClassVar[bool] = True
    noise: Float[Array, "draws noise_dim"]

    @property
    def num_draws(self) -> int:
        """M."""
        return self.noise.shape[0]

    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey | None = None
    ) -> Scalar:
        """The bound at the fixed noise, in nats; `key` is not used."""
        del key
        assert isinstance(q, AbstractReparameterised)
        draws = jax.vmap(q.push)(self.noise)
        return bound(log_weights(model, draws, batch) + jax.vmap(total)(draws.log_exact) + q.exact_entropy())
