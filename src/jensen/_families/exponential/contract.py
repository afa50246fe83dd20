"""What an exponential-family factor offers."""

import abc
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import UndefinedError
from jensen._base.typing import Array, PRNGKey, Scalar

Natural: TypeAlias = dict[str, Array]
"""Statistic name -> array: natural parameters, mean parameters or statistics, all of one structure."""


class AbstractExponentialFactor(eqx.Module):
    """q(z) = exp(⟨η, t(z)⟩ - A(η)) with respect to Lebesgue or counting measure, independent over the leading axes.

    The base measure is 1 throughout, so the natural parameters are the coefficients of the statistics in log q. The
    laws that every factor obeys: ∇A(η) = E[t(z)] = `mean_params`; H[q] = A(η) - ⟨η, E[t]⟩.
    A factor over several sites takes and returns their values in order.
    """

    natural: eqx.AbstractVar[Natural]

    @abc.abstractmethod
    def log_normalizer(self) -> Array:
        """A(η) in nats, one entry for each independent draw."""

    @abc.abstractmethod
    def mean_params(self) -> Natural:
        """E[t(z)], of the structure of `natural`."""

    @abc.abstractmethod
    def statistics(self, *values: Array) -> Natural:
        """t(z)."""

    @abc.abstractmethod
    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """One draw: the values of the sites."""

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """`count` draws of every site by NumPy, (count, ...), with nothing to compile; `None` where it has no way."""
        del rng, count
        return None

    @abc.abstractmethod
    def contains(self) -> Array:
        """Whether A(η) is finite, one entry for each independent draw."""

    @abc.abstractmethod
    def means(self) -> tuple[Array, ...]:
        """E[z] for each site; NaN where it does not exist."""

    @abc.abstractmethod
    def variances(self) -> tuple[Array, ...]:
        """Var[z] elementwise for each site; NaN where it does not exist."""

    def solved(self) -> tuple[Natural, Array]:
        """(E[t(z)], A(η)), computed together where they share work."""
        return self.mean_params(), self.log_normalizer()

    def mode(self) -> tuple[Array, ...]:
        """argmax_z ⟨η, t(z)⟩, the values of the sites; for families that can stand for a learned parameter."""
        raise UndefinedError(f"{type(self).__name__} has no mode in closed form.")

    def mode_params(self) -> Natural:
        """t at the mode."""
        return self.statistics(*self.mode())

    def has_mode(self) -> Array:
        """Whether ⟨η, t(z)⟩ has a maximum inside the support (a proper density need not), one entry for each draw."""
        return self.contains()

    def log_prob(self, *values: Array) -> Scalar:
        """log q(z) in nats."""
        return inner(self.natural, self.statistics(*values)) - jnp.sum(self.log_normalizer())

    def entropy(self) -> Scalar:
        """H[q] = A(η) - ⟨η, E[t]⟩, in nats (for a discrete latent the Shannon entropy)."""
        mean, size = self.solved()
        return jnp.sum(size) - inner(self.natural, mean)


def product(left: Array, right: Array) -> Array:
    """a b, with 0 · ±inf = 0."""
    entries: Array = left * right
    return jnp.where((left == 0) | (right == 0), 0.0, entries)


def inner(left: Natural, right: Natural) -> Scalar:
    """⟨a, b⟩, with 0 · ±inf = 0: a value of probability zero adds nothing."""
    products = jax.tree.map(lambda a, b: jnp.sum(product(a, b)), left, right)
    return sum(jax.tree.leaves(products), start=jnp.zeros(()))
