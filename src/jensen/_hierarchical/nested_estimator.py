"""Hierarchical families: given λ they are a product, for which every product estimator serves."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._base.errors import OptionError
from jensen._base.typing import Array, Flat, PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractModel
from jensen._core.family import stopped
from jensen._estimators import Mixed
from jensen._estimators.score_function import check
from jensen._hierarchical.family import Hierarchical

GAIN = "log q(z | λ) - log q(z)"
"""The term of the log joint that stands for the prior and r together, where draws of r beside ψ enter the bound."""


class Augmented(eqx.Module):
    """log p(x, z) with what z adds to the bound through λ, as one more term of the log joint.

    That is log r(ψ | z), or log q(z | λ) minus the importance-weighted estimate of log q(z) with `importance` draws.
    """

    model: AbstractModel
    q: Hierarchical
    point: Flat
    key: PRNGKey

    def log_joint(self, value: Any, batch: Any = None) -> dict[str, Array]:
        """The model's terms and those of the auxiliary density."""
        terms = dict(self.model.log_joint(value, batch))
        if not self.q.importance:
            return terms | self.q.reverse(self.point, value)
        own = self.q.log_ratio(self.point, value)
        bound, _ = self.q.marginal(self.key, value, own, self.q.importance)
        return terms | {GAIN: self.q.row_weight * (self.q.log_given(self.point, value) - bound)}


class Nested(AbstractEstimator):
    """L = E_{q(ψ)}[ E_{q(z|λ)}[log p(x, z) + log r(ψ|z) - log q(z|λ)] - log q(ψ) ], the inner bound by `inner`.

    Given λ = λ(ψ(ε)) the latents are a product of factors whose parameters are λ, so sums over small supports, local
    signals and regressed controls work as they are: their gradient in λ is pushed back through λ(ε), and r enters as a
    term of the log joint, the log r credit of every latent with it (Ranganath, Tran and Blei 2016, equations 8 and 9).
    The bound must be linear in the log weights. A mixture prior needs `Stratified(Nested(...))`.

    Args:
        inner: a `Mixed` for the product; its `num_draws` are draws of z for each λ.
        num_draws: draws of λ.
        stick: whether to leave out the score part of log q(ψ), of mean zero.
    """

    linear_only: ClassVar[bool] = True
    inner: Mixed
    num_draws: int = eqx.field(static=True, default=8)
    stick: bool = eqx.field(static=True, default=True)

    def __call__(self, bound: AbstractBound, model: AbstractModel, q: Hierarchical, batch: Any, key: PRNGKey) -> Scalar:
        """The bound from fresh draws, in nats."""
        check(self, bound, True)
        if q.importance and q.auxiliary.scores(q.whole_prior):
            raise OptionError(
                "The draws of this auxiliary density hold a choice that has to be scored.",
                f"Auxiliary: {type(q.auxiliary).__name__}, importance={q.importance}.",
                "Use ScoreFunction(), or an auxiliary density of one component.",
            )

        def one(key: PRNGKey) -> Scalar:
            first, second, third = jr.split(key, 3)
            mixed = q.mix(first, stopped(q) if self.stick else None)
            if isinstance(mixed.log_score, dict):
                raise OptionError(
                    "The component of λ would have to be scored.",
                    f"Prior: {type(q.prior).__name__}.",
                    "Use Stratified(Nested(...)), which sums it out.",
                )
            augmented: Any = Augmented(model, q, mixed.value, third)
            inside = self.inner(bound, augmented, q.given(mixed.value), batch, second)
            return inside if q.importance else inside - mixed.log_prob

        return jnp.mean(jax.vmap(one)(jr.split(key, self.num_draws)))
