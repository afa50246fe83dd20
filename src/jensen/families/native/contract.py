"""What a native factor offers: an independent draw for every row of a site, on the site's own support."""

import abc
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen._typing import Array, PRNGKey
from jensen.core.family import stopped

SMALL = 64
"""Values that a support may have for each of them to be looked at."""


class AbstractFactor(eqx.Module):
    """q_j(z_j) on the support of one site, independent over its rows.

    The leaves are unconstrained and lead with the axes of the rows; the value has the rows' shape followed by
    `event_dim` axes of its own. Every leaf moves only its own row.

    Attributes:
        reparameterised: whether a draw is a differentiable function of the leaves, the noise held fixed.
        discrete: whether the values are integers.
        event_dim: axes of one row's value.
    """

    reparameterised: eqx.AbstractClassVar[bool]
    discrete: eqx.AbstractClassVar[bool]
    event_dim: eqx.AbstractClassVar[int]

    @property
    @abc.abstractmethod
    def rows(self) -> tuple[int, ...]:
        """Shape of the rows."""

    @abc.abstractmethod
    def sample(self, key: PRNGKey) -> Array:
        """One draw of every row."""

    @abc.abstractmethod
    def log_prob(self, value: Array) -> Array:
        """log q of each row, in nats."""

    @abc.abstractmethod
    def mean(self) -> Array:
        """E[z], of the shape of the value."""

    @abc.abstractmethod
    def variance(self) -> Array:
        """Var[z] elementwise."""

    @abc.abstractmethod
    def information(self) -> Self:
        """The diagonal of the Fisher information E[(∂ log q / ∂λ)²] in the place of each leaf."""

    def entropy(self) -> Array | None:
        """H[q] of each row in nats; `None` where there is no closed form."""
        return None

    def support(self) -> Array | None:
        """The values of a small finite support, (K,); `None` otherwise."""
        return None

    def log_masses(self) -> Array:
        """log q of every value of a small finite support: rows + (K,)."""
        values = self.support()
        assert values is not None
        full = jnp.broadcast_to(values.reshape((-1,) + (1,) * len(self.rows)), (values.shape[0], *self.rows))
        return jnp.moveaxis(jax.vmap(self.log_prob)(full), 0, -1)

    def scored(self, key: PRNGKey) -> tuple[Array, Array]:
        """A draw held constant, and its log q, differentiable."""
        value = stopped(self.sample(key))
        return value, self.log_prob(value)


def trigamma(x: Array) -> Array:
    """ψ'(x)."""
    return jax.scipy.special.polygamma(1, x)
