"""What a native factor offers: an independent draw for every row of a site, on the site's own support."""

import abc
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import UndefinedError
from jensen._base.typing import Array, PRNGKey

SMALL = 64
"""Values that a support may have for each of them to be looked at."""

COORDINATES = 6
"""Parameters, or statistics, of a row up to which each of them is a control."""


class AbstractFactor(eqx.Module):
    """q_j(z_j) on the support of one site, independent over its rows.

    The leaves are unconstrained and lead with the axes of the rows; the value has the rows' shape followed by
    `event_dim` axes of its own. Every leaf moves only its own row.

    Attributes:
        reparameterised: whether a draw is a differentiable function of the leaves, the noise held fixed.
        discrete: whether the values are integers.
        event_dim: axes of one row's value.
        circular: whether both ends of the support are one point.
        exact_moments: whether `mean` and `variance` are those of the value, elementwise.
    """

    reparameterised: eqx.AbstractClassVar[bool]
    discrete: eqx.AbstractClassVar[bool]
    event_dim: eqx.AbstractClassVar[int]
    exact_moments: ClassVar[bool] = True
    circular: ClassVar[bool] = False

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

    @property
    def interpolated(self) -> int:
        """How many `statistics` a function of the value is interpolated in; none where there are no `nodes`."""
        return 0

    def nodes(self) -> Array:
        """Values of every row at which a function of it is looked at to be interpolated, (statistics + 1, *value)."""
        raise UndefinedError(f"A {type(self).__name__} factor has no nodes: functions of it are not interpolated.")

    def statistics(self, value: Array) -> Array:
        """Functions of each row's value whose means under q are zero, rows + (m,): sufficient statistics, centred."""
        del value
        raise UndefinedError(f"A {type(self).__name__} factor has no statistics: functions of it are not interpolated.")

    def tempered(self, power: float) -> Self:
        """A relative with heavier flanks, about q^power normalised (power < 1); where there is none, itself."""
        del power
        return self

    def around(self, draws: np.ndarray) -> Self:
        """A member placed where draws of the prior lie, (draws, ...); where there is no way to, itself."""
        del draws
        return self


class AbstractFreeForm(AbstractFactor):
    """A factor on a finite set that holds every distribution over it, so that coordinate updates are exact."""

    @abc.abstractmethod
    def with_log_masses(self, log_masses: Array) -> Self:
        """The member with these masses, rows + (K,), up to a constant for each row."""

    @abc.abstractmethod
    def coordinate_step(self, slope: Self, fraction: Array | float) -> Self:
        """`fraction` of the way (in log masses) to the optimal factor given the others.

        `slope` is the bound's gradient in the leaves. With energies e, ∂L/∂(log mass) = p_k (e_k - log p_k - const),
        so the whole way is the gradient over p: coordinate ascent, and a natural-gradient step of length one.
        """

    def around(self, draws: np.ndarray) -> Self:
        """The frequencies of the values, smoothed; itself where the set is too long to be listed."""
        values = self.support()
        if values is None:
            return self
        counts = np.stack([(draws == value).mean(axis=0) for value in np.asarray(values)], axis=-1)
        return jax.tree.map(jnp.asarray, self.with_log_masses(np.log(counts + 1.0 / len(values))))  # type: ignore[arg-type]


ROOT3 = float(np.sqrt(3.0))
"""The outer nodes of the three-point Gauss-Hermite rule, in sds."""


def three(middle: Array, spread: Array) -> Array:
    """Gauss-Hermite nodes, (3, ...)."""
    return jnp.stack([middle - ROOT3 * spread, middle, middle + ROOT3 * spread])


def two_counts(mean: Array, variance: Array, low: Array | int, top: Array | int | None = None) -> Array:
    """Two counts about a mean, an sd apart, (2, ...)."""
    last = np.iinfo(np.int32).max if top is None else top
    first = jnp.clip(jnp.floor(mean), low, last - 1).astype(int)
    step = jnp.maximum(1, jnp.ceil(jnp.sqrt(variance))).astype(int)
    return jnp.stack([first, jnp.minimum(first + step, last)])


def middle_and_spread(draws: np.ndarray, widest: float = 3.0) -> tuple[Any, Any]:
    """Median and scaled interquartile range over the draws; a vague prior's range is cut at `widest`."""
    draws = np.asarray(draws, float)
    low, high = np.quantile(draws, [0.25, 0.75], axis=0)
    return np.median(draws, axis=0), np.clip((high - low) / 1.35, 1e-3, widest)


def trigamma(x: Array) -> Array:
    """ψ'(x)."""
    return jax.scipy.special.polygamma(1, x)
