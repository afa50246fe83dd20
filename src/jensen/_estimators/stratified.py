"""Mixtures: every component is drawn from, and its index summed out."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._base.typing import PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractModel
from jensen._estimators.score_function import check


class Stratified(AbstractEstimator):
    """L = Σ_k π_k E_{q_k}[log p - log q], each expectation by another estimator: exact in the component.

    Nothing is scored for the choice of the component, which is what makes the gradient in π and in the components'
    parameters quiet (Roeder, Wu and Duvenaud 2017, section 4). The bound must be linear in the log weights.

    Args:
        inner: the estimator for one component, such as `StickingTheLanding(8)`.

    Example:
        >>> from jensen._estimators import StickingTheLanding
        >>> Stratified(StickingTheLanding(4)).inner.num_draws
        4
    """

    linear_only: ClassVar[bool] = True
    inner: Any

    @property
    def num_draws(self) -> int:
        """Draws for each component."""
        return self.inner.num_draws

    def __call__(self, bound: AbstractBound, model: AbstractModel, q: Any, batch: Any, key: PRNGKey) -> Scalar:
        """The bound from fresh draws of every component, in nats."""
        check(self, bound, True)
        count = q.num_strata

        def one(index: Any, key: PRNGKey) -> Scalar:
            return self.inner(bound, model, q.stratum(index), batch, key)

        values = jax.vmap(one)(jnp.arange(count), jr.split(key, count))
        return jnp.sum(jnp.exp(q.log_shares) * values)
