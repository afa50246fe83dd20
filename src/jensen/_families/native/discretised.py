"""Counts by a normal on the scale that makes their variance even, cut into cells: as narrow or as wide as need be."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr

from jensen._base.typing import Array, PRNGKey
from jensen._families.native.contract import AbstractFactor, middle_and_spread, two_counts

NARROWEST = -10.0
"""Log scale from which on a factor counts as this narrow: all mass is on one value long before."""
BLOCKS, REACH = 64, 6.0
"""Blocks of values over which moments are summed, and how many sds they reach to either side."""
LARGEST, VAGUE = 2**30, 40.0
"""The largest count that is drawn, and the location beyond which no vague prior places a factor (400 counts)."""


class DiscretisedNormal(AbstractFactor):
    """q(low + k) = Φ((g(k + 1) - μ) / σ) - Φ((g(k) - μ) / σ), the first cell with all below and the last all above.

    g(t) = 2 √t for counts without an upper end, where a Poisson has σ near 1 whatever its mean; for the values low ..
    low + n g(t) = 2 √N arcsin √(t / N), N = n + 1, where a binomial has. Unlike a negative binomial, which is never
    narrower than a Poisson, or a binomial, whose mean fixes its spread, it takes any mean and any spread, down to one
    value; its flanks fall like those of the geometric distribution at the heaviest.
    """

    reparameterised: ClassVar[bool] = False
    discrete: ClassVar[bool] = True
    event_dim: ClassVar[int] = 0
    loc: Array
    log_scale: Array
    low: Any = eqx.field(static=True, default=0, converter=lambda low: nested(low))
    count: int | None = eqx.field(static=True, default=None)

    @property
    def least(self) -> Any:
        """`low`: one number, or one of each row."""
        return np.asarray(self.low) if isinstance(self.low, tuple) else self.low

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.loc)

    @property
    def _top(self) -> int:
        return LARGEST if self.count is None else self.count

    def _scale(self) -> Array:
        return jnp.exp(jnp.maximum(self.log_scale, NARROWEST))

    def _even(self, t: Any) -> Any:
        """The function g."""
        if self.count is None:
            return 2.0 * jnp.sqrt(t)
        cells = self.count + 1.0
        return 2.0 * np.sqrt(cells) * jnp.arcsin(jnp.sqrt(jnp.minimum(t / cells, 1.0)))

    def _cell(self, x: Array) -> Array:
        """The k with g(k) ≤ x < g(k + 1), as a float."""
        if self.count is None:
            t = 0.25 * jnp.maximum(x, 0.0) ** 2
        else:
            cells = self.count + 1.0
            t = cells * jnp.sin(jnp.clip(x / (2.0 * np.sqrt(cells)), 0.0, 0.5 * np.pi)) ** 2
        return jnp.clip(jnp.floor(t), 0.0, self._top)

    def sample(self, key: PRNGKey) -> Array:
        """The cell of a normal draw."""
        noise = jax.random.normal(key, self.rows, self.loc.dtype)
        return self.least + self._cell(self.loc + self._scale() * noise).astype(int)

    def log_prob(self, value: Array) -> Array:
        """The log mass of the value's cell."""
        k = jnp.asarray(value - self.least, self.loc.dtype)
        first, last = k <= 0.0, k >= self._top
        inside, scale = (k >= 0.0) & (k <= self._top), self._scale()
        k = jnp.clip(k, 0.0, self._top)
        below, above = (self._even(k) - self.loc) / scale, (self._even(k + 1.0) - self.loc) / scale
        left, right = jnp.where(first, above - 1.0, below), jnp.where(last, below + 1.0, above)
        ends: Any = jnp.where(first, log_ndtr(right), log_ndtr(-left))
        ends = jnp.where(first & last, 0.0, ends)
        found: Any = jnp.where(first | last, ends, _log_mass(left, right))
        return jnp.where(inside, found, -jnp.inf)  # type: ignore[return-value]

    def _blocks(self) -> tuple[Array, Array, Array]:
        """(middle of each block of values, its edges on the scale of g in sds, how many values), rows + (BLOCKS,)."""
        loc, scale = jax.lax.stop_gradient((self.loc, self._scale()))
        even = self._cell(loc[..., None] + scale[..., None] * np.linspace(-REACH, REACH, BLOCKS + 1))
        starts = jnp.maximum(even, even[..., :1] + jnp.arange(BLOCKS + 1))  # a block has a value at least
        edges: Any = (self._even(jnp.minimum(starts, self._top + 1.0)) - loc[..., None]) / scale[..., None]
        edges = jnp.asarray(jnp.where(starts > self._top, jnp.inf, edges))  # type: ignore[arg-type]
        edges = edges.at[..., 0].set(-jnp.inf).at[..., -1].set(jnp.inf)
        first, last = starts[..., :-1], jnp.minimum(starts[..., 1:] - 1.0, self._top)
        return 0.5 * (first + jnp.maximum(last, first)), edges, jnp.maximum(last - first + 1.0, 1.0)

    def _moments(self) -> tuple[Array, Array]:
        middle, edges, width = self._blocks()
        mass = jnp.diff(ndtr(edges), axis=-1)
        mean = jnp.sum(mass * middle, axis=-1)
        spread = (middle - mean[..., None]) ** 2 - (width**2 - 1.0) / 12.0  # less what grouping adds (Sheppard)
        return self.least + mean, jnp.sum(mass * spread, axis=-1)

    def mean(self) -> Array:
        """Σ k q(k), value by value; where there are many, by blocks of values a fifth of an sd wide."""
        return self._moments()[0]

    def variance(self) -> Array:
        """Σ (k - mean)² q(k), likewise."""
        return self._moments()[1]

    def information(self) -> Self:
        """Σ q(k) (∂ log q(k))² for μ and log σ, likewise, and at least so much that a step is a part of a cell.

        On one value alone both are 0, and a step in their units would leave it for nowhere.
        """
        _, edges, _ = self._blocks()
        finite: Any = jnp.where(jnp.isfinite(edges), edges, 0.0)
        density: Any = jnp.where(jnp.isfinite(edges), jnp.exp(-0.5 * finite**2) / np.sqrt(2.0 * np.pi), 0.0)
        mass = jnp.maximum(jnp.diff(ndtr(edges), axis=-1), 1e-14)
        by_loc = jnp.sum(jnp.diff(density, axis=-1) ** 2 / mass, axis=-1) / self._scale() ** 2
        by_scale = jnp.sum(jnp.diff(finite * density, axis=-1) ** 2 / mass, axis=-1)
        least = 0.2 / (self._scale() ** 2 + self._cell_width() ** 2)
        return type(self)(jnp.maximum(by_loc, least), jnp.maximum(by_scale, 0.2), self.low, self.count)

    def _cell_width(self) -> Array:
        """On the scale of g, at the mean."""
        mean = jnp.clip(self.mean() - self.least, 0.0, self._top)
        return self._even(mean + 1.0) - self._even(mean)

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 1

    def nodes(self) -> Array:
        """Two counts an sd apart."""
        top = None if self.count is None else self.least + self.count
        return two_counts(self.mean(), self.variance(), self.least, top)

    def statistics(self, value: Array) -> Array:
        """The count less its mean."""
        return (value - self.mean())[..., None]

    def tempered(self, power: float) -> Self:
        """The scale over √power; a factor that is all on one value reaches its neighbours."""
        variance = self._scale() ** 2 / power + self._cell_width() ** 2 * (1.0 / power - 1.0)
        return type(self)(self.loc, 0.5 * jnp.log(variance), self.low, self.count)

    def around(self, draws: np.ndarray) -> Self:
        """With the draws' median and spread on the scale of g; not far out where they are vague."""
        middle, spread = middle_and_spread(
            np.asarray(self._even(jnp.asarray(np.maximum(draws - self.least, 0) + 0.5, float)))
        )
        limit = np.where(spread < 2.99, np.inf, VAGUE)
        loc, scale = np.minimum(middle, limit), np.maximum(spread, 0.5)
        return type(self)(jnp.asarray(loc), jnp.asarray(np.log(scale)), self.low, self.count)


def nested(low: Any) -> Any:
    """An array of integers, or a list of them, as tuples, which can be compared; a number as it is."""
    rows = np.asarray(low).tolist()
    return tuple(nested(row) for row in rows) if isinstance(rows, list) else low if isinstance(low, int) else rows


def _log_mass(left: Array, right: Array) -> Array:
    """log (Φ(right) - Φ(left)), from whichever tail has the digits."""
    flip = left + right > 0.0
    low, high = jnp.where(flip, -right, left), jnp.where(flip, -left, right)
    top: Any = log_ndtr(high)
    between = jnp.maximum(top - log_ndtr(low), jnp.finfo(top.dtype).tiny)
    near = between < 0.7
    small, large = jnp.where(near, between, 0.7), jnp.where(near, 0.7, between)
    return top + jnp.where(near, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))
