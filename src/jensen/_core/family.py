"""Contract 2, the family: draws from q with the log densities an estimator needs."""

import abc
from typing import Any, NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.random as jr

from jensen._base.typing import Array, PRNGKey, Scalar

T = TypeVar("T")


def stopped(tree: T) -> T:
    """The same tree, treated as constant by differentiation."""
    return jax.tree.map(jax.lax.stop_gradient, tree)


class Draw(NamedTuple):
    """One draw z ~ q.

    The three log densities are trees whose entries add up: one scalar, or term name -> array over rows.

    `log_prob` is log q(z), or an auxiliary-variable upper bound on it; where the choice was not reparameterised it is
    held constant. `log_score` is the log density of the choices that were not reparameterised (zero for a fully
    pathwise draw), differentiable in everything that these choices were drawn from; its keys are the scored factors
    and each of its entries is one independent choice. `log_exact` is a term of `log_prob` whose mean under q is known
    in closed form: E[log_exact] = -exact_entropy().
    """

    value: Any
    log_prob: Any
    log_score: Any
    log_exact: Any


class AbstractFamily(eqx.Module):
    """An approximation q as a pytree: its array leaves are the variational parameters, all unconstrained."""

    @abc.abstractmethod
    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """One draw, reparameterised where `pathwise` (everywhere, nowhere, or the factors named) and possible.

        `scored_by` evaluates `log_prob` (default: this family itself); `log_score` is always this family's own.
        """

    def reach(self, factor: str) -> tuple[str, ...] | None:
        """The terms of `log_prob` that depend on the choices scored as `factor`; `None` means all of them.

        A term over the factor's own rows is read row by row, any other by its sum.
        """
        del factor
        return None

    def touched(self, factor: str) -> tuple[str, ...]:
        """The sites whose values follow from the choices scored as `factor`: the site of that name."""
        return (factor,)

    def exact_entropy(self) -> Scalar:
        """-E[log_exact] in nats; zero for a family without a closed-form part."""
        return jax.numpy.zeros(())

    @property
    def num_strata(self) -> int:
        """Components that can be drawn from one by one (`stratum`), with probabilities exp(log_shares)."""
        return 1

    @property
    def log_shares(self) -> Array:
        """Log probabilities of the strata, (num_strata,)."""
        return jax.numpy.zeros(1)

    def stratum(self, index: Any) -> "AbstractFamily":
        """The family that draws from one stratum, with the density of the whole."""
        del index
        return self

    def at(self, batch: Any) -> Self:
        """q over the latents of a minibatch; families without local latents are unchanged."""
        del batch
        return self

    def put(self, part: Self, batch: Any) -> Self:
        """q with what `at(batch)` gave replaced by `part`."""
        del batch
        return part


class AbstractDensity(AbstractFamily):
    """A family whose log density can be evaluated at any point."""

    @abc.abstractmethod
    def log_prob(self, value: Any) -> Scalar:
        """log q(z) in nats."""


class AbstractReparameterised(AbstractDensity):
    """A density whose draws are a smooth function of standard normal noise: z = push(ε)."""

    @property
    @abc.abstractmethod
    def noise_dim(self) -> int:
        """Number of standard normal variables that one draw takes."""

    @abc.abstractmethod
    def push(self, noise: Array, *, scored_by: Self | None = None) -> Draw:
        """The draw at noise ε, shape (noise_dim,), differentiable in the parameters and in ε."""

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """Push fresh standard normal noise."""
        draw = self.push(jr.normal(key, (self.noise_dim,)), scored_by=scored_by)
        if pathwise:
            return draw
        value = stopped(draw.value)
        log_prob = self.log_prob(value)
        return Draw(value, stopped(log_prob), log_prob, stopped(draw.log_exact))
