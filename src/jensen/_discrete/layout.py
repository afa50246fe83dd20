"""How each discrete latent is summed out: the enumerated axes it takes, and its array over them."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from jensen._discrete.table import Alternating, Table


class Mode(enum.Enum):
    """What is assumed about a discrete latent, and checked: which of its entries may meet in one factor.

    ROWS: none do (a factor's entry sees the entry of its own row), so all share one enumerated axis.
    GROUPS: a factor's entry sees one entry, the same each time but not that of its own row: c[group[n]].
    CHAIN: neighbours along the first axis do (the state of a `scan`); even and odd steps take an axis each.
    EACH: any may, so every entry takes an axis of its own.
    """

    ROWS = "rows"
    GROUPS = "groups"
    CHAIN = "chain"
    EACH = "each"


@dataclass(frozen=True, eq=False)
class DiscreteSite:
    """A discrete latent with its `values` (K,), its `shape`, and the enumerated `axes` it takes.

    `index` says for a site whose rows are picked which of them each entry of a factor sees (-1: none), by factor.
    """

    name: str
    values: np.ndarray
    shape: tuple[int, ...]
    mode: Mode
    axes: tuple[int, ...]
    index: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def dims(self) -> frozenset[tuple[int, int]]:
        """The batch axes (position from the right, size) over which its entries are independent."""
        if self.mode is Mode.EACH:
            return frozenset()
        return frozenset((i - len(self.shape), n) for i, n in enumerate(self.shape) if n > 1)

    @property
    def time(self) -> tuple[int, int] | None:
        """The axis (position, size) of a chain."""
        return (-len(self.shape), self.shape[0]) if self.mode is Mode.CHAIN else None

    def table(self) -> Table:
        """The site's value as the program sees it, over its enumerated axes."""
        values, ndim, count = jnp.asarray(self.values), len(self.shape), len(self.axes)
        if self.mode in (Mode.ROWS, Mode.GROUPS):
            return Table(values.reshape((-1,) + (1,) * ndim), self.axes)
        if self.mode is Mode.CHAIN:
            even, odd = values.reshape((-1, 1) + (1,) * ndim), values.reshape((1, -1) + (1,) * ndim)
            own = values.reshape((-1,) + (1,) * ndim)
            pair = Table(own, self.axes[:1]), Table(own, self.axes[1:])
            return Alternating(jnp.where(self.even(), even, odd), self.axes, pair)
        each = [values.reshape([-1 if i == j else 1 for i in range(count)] + [1]) for j in range(count)]
        shape = (*(len(self.values),) * count, 1)
        stacked = jnp.concatenate([jnp.broadcast_to(one, shape) for one in each], axis=-1)
        return Table(stacked.reshape((*shape[:-1], *self.shape)), self.axes)

    def even(self) -> Any:
        """Whether a step of the chain is even, over the natural axes."""
        return (np.arange(self.shape[0]) % 2 == 0).reshape((-1,) + (1,) * (len(self.shape) - 1))

    def positions(self, index: Any) -> dict[int, Any]:
        """Enumerated axis -> which of its entries a factor's row sees, when the site's values are `values[index]`."""
        if self.mode in (Mode.ROWS, Mode.GROUPS):
            return {self.axes[0]: index}
        if self.mode is Mode.CHAIN:
            before = jnp.concatenate([jnp.zeros_like(index[:1]), index[:-1]])
            own, other = jnp.where(self.even(), index, before), jnp.where(self.even(), before, index)
            return {self.axes[0]: own, self.axes[1]: other}
        return dict(zip(self.axes, jnp.reshape(index, (-1,)), strict=True))

    def potential(self, values: Any) -> list[Table]:
        """Extra log weights (K, *shape), one for every value of every entry, as tables."""
        if self.mode in (Mode.ROWS, Mode.GROUPS):
            return [Table(values, self.axes)]
        if self.mode is Mode.CHAIN:
            return [Table(jnp.where(self.even(), values[:, None], values[None, :]), self.axes)]
        flat = jnp.reshape(values, (values.shape[0], -1))
        return [Table(flat[:, j], (axis,)) for j, axis in enumerate(self.axes)]


@dataclass(frozen=True, eq=False)
class DiscreteLayout:
    """Every discrete latent with its mode; static, compared by identity.

    `computed` are the deterministic sites that depend on a discrete latent.
    """

    sites: dict[str, DiscreteSite]
    computed: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[int, int]:
        """Enumerated axis -> its number of values."""
        return {axis: len(site.values) for site in self.sites.values() for axis in site.axes}

    def owner(self, axis: int) -> DiscreteSite:
        """The site that an enumerated axis belongs to."""
        return next(site for site in self.sites.values() if axis in site.axes)

    def owners(self, axes: Iterable[int]) -> list[DiscreteSite]:
        """The sites that some axes belong to, in the order of the program."""
        axes = set(axes)
        return [site for site in self.sites.values() if axes & set(site.axes)]
