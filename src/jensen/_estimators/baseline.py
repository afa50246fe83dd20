"""How the signal of a score-function gradient is made quiet without moving its mean."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen._base.typing import Array, LogWeights
from jensen._core import AbstractBound


class AbstractBaseline(eqx.Module):
    """Turns log weights (draws, *rows) into the numbers that multiply the scores.

    Attributes:
        least: draws that it needs.
    """

    least: eqx.AbstractClassVar[int]

    @abc.abstractmethod
    def signal(self, bound: AbstractBound, weights: Array) -> Array:
        """(draws, *rows): what each draw of each row adds to the bound, as its score sees it."""


class NoBaseline(AbstractBaseline):
    """The plain score-function gradient: unbiased from one draw on, and noisy."""

    least: ClassVar[int] = 1

    def signal(self, bound: AbstractBound, weights: Array) -> Array:
        """The bound less its slope in the draw's own log weight."""
        return _by_row(lambda w: _plain(bound, w), weights)


class LeaveOneOut(AbstractBaseline):
    """What a draw adds beyond the other draws: it is swapped for the mean of the log weights of the others.

    For the ELBO this is leave-one-out (Kool, van Hoof and Welling 2019; the gradient of VarGrad, Richter et al. 2020),
    for the importance-weighted bound VIMCO (Mnih and Rezende 2016, equation 10).
    """

    least: ClassVar[int] = 2

    def signal(self, bound: AbstractBound, weights: Array) -> Array:
        """Against a baseline that is independent of the draw."""
        return _by_row(lambda w: _beyond_others(bound, w), weights)


def _by_row(rule: Any, weights: Array) -> Array:
    flat = weights.reshape(weights.shape[0], -1)
    return jax.vmap(rule, 1, 1)(flat).reshape(weights.shape)


def _plain(bound: AbstractBound, log_w: LogWeights) -> Array:
    # The draw's log q is held constant in the log weight, hence the slope: ∂L = E[h (L - ∂L/∂log w)].
    if bound.linear:
        return log_w / log_w.size
    value, slope = jax.value_and_grad(bound)(log_w)
    return value - slope


def _beyond_others(bound: AbstractBound, log_w: LogWeights) -> Array:
    n = log_w.size
    if bound.linear:
        return (log_w - jnp.mean(log_w)) / (n - 1)
    # Draws of other groups add the same with and without this one, so each group is looked at by itself.
    size = bound.group if bound.group > 1 else n
    groups = log_w.reshape(-1, size)
    single = jax.vmap(lambda w: _swapped(bound, w))(groups)
    return single.reshape(-1) / groups.shape[0]


def _swapped(bound: AbstractBound, log_w: LogWeights) -> Array:
    n = log_w.size
    others = (jnp.sum(log_w) - log_w) / (n - 1)
    swapped = jnp.where(jnp.eye(n, dtype=bool), others[:, None], log_w[None, :])
    value, slope = jax.value_and_grad(bound)(log_w)
    value_without, slope_without = jax.vmap(jax.value_and_grad(bound))(swapped)
    own = jnp.diagonal(slope_without)
    return (value - slope) - (value_without - own)
