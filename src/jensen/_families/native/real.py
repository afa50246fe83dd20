"""Factors on the line, the half line and the circle's chart: normal, log-normal, and a normal behind any bijection."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.native.contract import AbstractFactor, middle_and_spread, three
from jensen._program.static_arguments import Frozen

LOG_2PI = float(np.log(2.0 * np.pi))


class AbstractLocationScale(AbstractFactor):
    """One normal variable for each row, seen through a fixed map; the leaves are its mean and its log sd."""

    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    event_dim: ClassVar[int] = 0
    loc: Array
    log_scale: Array

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.loc)

    def information(self) -> Self:
        """(1 / s², 2)."""
        return type(self)(jnp.exp(-2.0 * self.log_scale), jnp.full_like(self.log_scale, 2.0))

    def tempered(self, power: float) -> Self:
        """The normal variable's variance over power."""
        return type(self)(self.loc, self.log_scale - 0.5 * np.log(power))


class Normal(AbstractLocationScale):
    """N(loc, exp(log_scale)²) on the real line.

    Example:
        >>> import jax.numpy as jnp
        >>> float(Normal(jnp.array(1.0), jnp.array(0.0)).mean())
        1.0
    """

    def sample(self, key: PRNGKey) -> Array:
        """m + s ε."""
        return self.loc + jnp.exp(self.log_scale) * jax.random.normal(key, self.rows)

    def log_prob(self, value: Array) -> Array:
        """-½ ((z - m) / s)² - log s - ½ log 2π."""
        return -0.5 * ((value - self.loc) * jnp.exp(-self.log_scale)) ** 2 - self.log_scale - 0.5 * LOG_2PI

    def mean(self) -> Array:
        """m."""
        return self.loc

    def variance(self) -> Array:
        """s²."""
        return jnp.exp(2.0 * self.log_scale)

    def entropy(self) -> Array:
        """½ log 2πe + log s."""
        return 0.5 * (1.0 + LOG_2PI) + self.log_scale

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 2

    def nodes(self) -> Array:
        """m and m ± √3 s."""
        return three(self.loc, jnp.exp(self.log_scale))

    def statistics(self, value: Array) -> Array:
        """ε and ε² - 1."""
        standard = (value - self.loc) * jnp.exp(-self.log_scale)
        return jnp.stack([standard, standard**2 - 1.0], axis=-1)

    def around(self, draws: np.ndarray) -> Self:
        """At the median, half as wide as the draws."""
        middle, spread = middle_and_spread(draws)
        return type(self)(jnp.asarray(middle), jnp.asarray(np.log(0.5 * spread)))


class LogNormal(AbstractLocationScale):
    """Exp of N(loc, exp(log_scale)²), on the positive half line."""

    def _normal(self) -> Normal:
        return Normal(self.loc, self.log_scale)

    def sample(self, key: PRNGKey) -> Array:
        """exp(m + s ε)."""
        return jnp.exp(self._normal().sample(key))

    def log_prob(self, value: Array) -> Array:
        """log N(log z; m, s²) - log z."""
        logarithm = jnp.log(value)
        return self._normal().log_prob(logarithm) - logarithm

    def mean(self) -> Array:
        """exp(m + ½ s²)."""
        return jnp.exp(self.loc + 0.5 * self._normal().variance())

    def variance(self) -> Array:
        """(exp(s²) - 1) exp(2m + s²)."""
        square = self._normal().variance()
        return jnp.expm1(square) * jnp.exp(2.0 * self.loc + square)

    def entropy(self) -> Array:
        """m + ½ log 2πe + log s."""
        return self.loc + self._normal().entropy()

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 2

    def nodes(self) -> Array:
        """Those of log z."""
        return jnp.exp(self._normal().nodes())

    def statistics(self, value: Array) -> Array:
        """Those of log z."""
        return self._normal().statistics(jnp.log(value))


class Transformed(AbstractFactor):
    """z = T(u), u ~ Π N: for a constrained support without a family of its own; one row for each event of the site.

    Attributes:
        loc, log_scale: rows + the event's unconstrained shape. boxed: a NumPyro transform, constant even where it holds
            arrays (bounds that are data).
        event_axes: axes of u and of z that make one event.
    """

    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    exact_moments: ClassVar[bool] = False
    event_dim: ClassVar[int] = -1
    loc: Array
    log_scale: Array
    boxed: Frozen = eqx.field(static=True)
    event_axes: int = eqx.field(static=True)

    @property
    def transform(self) -> Any:
        """T."""
        return self.boxed.value["transform"]

    @property
    def rows(self) -> tuple[int, ...]:
        """The site's shape without its event."""
        shape = jnp.shape(self.loc)
        return shape[: len(shape) - self.event_axes]

    def sample(self, key: PRNGKey) -> Array:
        """T(m + s ε)."""
        return self.transform(self.loc + jnp.exp(self.log_scale) * jax.random.normal(key, jnp.shape(self.loc)))

    def log_prob(self, value: Array) -> Array:
        """log N(T⁻¹(z)) - log |det ∂T|."""
        raw = self.transform.inv(value)
        log_prob = Normal(self.loc, self.log_scale).log_prob(raw)
        log_det = self.transform.log_abs_det_jacobian(raw, value)
        over = len(self.rows)
        return _over_events(log_prob, over) - _over_events(log_det, over)

    def mean(self) -> Array:
        """T(m): the median's image, since the mean has no closed form."""
        return self.transform(self.loc)

    def variance(self) -> Array:
        """Of z to first order in s."""
        tangent = jnp.exp(self.log_scale)
        _, moved = jax.jvp(self.transform, (self.loc,), (tangent,))
        return moved**2

    def information(self) -> Self:
        """(1 / s², 2)."""
        leaves = jnp.exp(-2.0 * self.log_scale), jnp.full_like(self.log_scale, 2.0)
        return type(self)(*leaves, self.boxed, self.event_axes)

    def tempered(self, power: float) -> Self:
        """The variance of u over power."""
        return type(self)(self.loc, self.log_scale - 0.5 * np.log(power), self.boxed, self.event_axes)


def _over_events(values: Array, rows: int) -> Array:
    return jnp.sum(values, axis=tuple(range(rows, jnp.ndim(values))))
