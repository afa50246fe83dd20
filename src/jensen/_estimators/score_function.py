"""The score-function gradient, with any credit and any baseline."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._base.errors import OptionError
from jensen._base.typing import PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel, total
from jensen._core.family import stopped
from jensen._estimators.baseline import AbstractBaseline, LeaveOneOut
from jensen._estimators.credit import AbstractCredit, Whole


class ScoreFunction(AbstractEstimator):
    """∇L = E_q[∇log q(z) (log p(x, z) - log q(z))]: needs values of log p only, and takes discrete latents.

    Ranganath, Gerrish and Blei (2014), equation 2. `credit` says which part of the log weight a choice is multiplied
    with, `baseline` what is subtracted from it; neither moves the mean. With `pathwise=True` the factors that can be
    reparameterised are, in the same draw, and only the others are scored.

    Args:
        num_draws: at least the two that the default baseline needs.
        credit: `Whole()` or `Blanket(links)`.
        baseline: `LeaveOneOut()` or `NoBaseline()`.
        pathwise: whether to reparameterise what can be.
    """

    linear_only: ClassVar[bool] = False
    num_draws: int = eqx.field(static=True, default=8)
    credit: AbstractCredit = Whole()
    baseline: AbstractBaseline = LeaveOneOut()
    pathwise: bool | frozenset[str] = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        enough(self, self.num_draws, self.baseline.least)

    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey
    ) -> Scalar:
        """The bound from fresh draws, in nats."""
        check(self, bound, self.credit.linear_only)
        enough(self, bound.group, 1 if bound.linear else self.baseline.least)
        draws = jax.vmap(lambda k: q.draw(k, pathwise=self.pathwise))(jr.split(key, self.num_draws))
        terms = jax.vmap(lambda value: model.log_joint(value, batch))(draws.value)
        log_w = jax.vmap(total)(terms) - jax.vmap(total)(draws.log_prob)
        surrogate = bound(log_w)
        for name, score in by_name(draws.log_score).items():
            local = self.credit(q, name, score.shape[1:], terms, draws.log_prob, log_w)
            signal = self.baseline.signal(bound, stopped(local))
            surrogate = surrogate + without_value(signal, score)
        return surrogate


def without_value(signal: Any, score: Any) -> Scalar:
    """Σ signal · score as a function whose value is zero and whose gradient is Σ signal · ∇score."""
    return jnp.sum(stopped(signal) * (score - stopped(score)))


def by_name(tree: Any) -> dict[str, Any]:
    """The entries of a draw by name; a single one is called `q`."""
    return tree if isinstance(tree, dict) else {"q": tree}


def enough(estimator: Any, draws: int, least: int) -> None:
    """Refuse fewer draws than an estimator needs."""
    if draws < least:
        raise OptionError(
            f"{type(estimator).__name__} was asked to work with {draws} draw, but its baseline compares draws with "
            f"each other and needs {least}.",
            "Option: num_draws.",
            f"Use num_draws={max(least, 8)}, or baseline=NoBaseline() for a gradient from single draws.",
        )


def check(estimator: Any, bound: AbstractBound, linear_only: bool) -> None:
    """Refuse a bound that the estimator would be biased for."""
    if linear_only and not bound.linear:
        raise OptionError(
            f"{type(estimator).__name__} with these parts is biased for {type(bound).__name__}.",
            "Options: bound, estimator.",
            "Credit over the Markov blanket, regression, exact entropy and local expectation need a bound that is "
            "linear in the log weights; use ScoreFunction() or DoublyReparameterised().",
        )
