"""Which latents are integrated out, and which rows of the log density belong to which group of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array


class Owners(eqx.Module):
    """Which group each row of one site belongs to, and the sum over the rows of every group.

    `how` says how rows follow each other, since adding up by index is slow: "alone" (no group), "repeat" (all rows of
    the first group, then of the second, ...), "tile" (the groups over and over), or "index".
    """

    how: str = eqx.field(static=True)
    groups: int = eqx.field(static=True)
    index: np.ndarray | None = None
    rows: float = eqx.field(static=True, default=0.0)

    @classmethod
    def of(cls, owner: np.ndarray, groups: int) -> "Owners":
        """`owner`: the group of every row, `groups` for none."""
        own, each = np.arange(groups), len(owner) // max(groups, 1)
        rows = float((owner < groups).sum()) / max(groups, 1)
        if (owner == groups).all():
            return cls("alone", groups)
        if len(owner) == each * groups and (owner == np.repeat(own, each)).all():
            return cls("repeat", groups, rows=rows)
        if len(owner) == each * groups and (owner == np.tile(own, each)).all():
            return cls("tile", groups, rows=rows)
        return cls("index", groups, owner.astype(np.int32), rows)

    def each(self, rows: int) -> np.ndarray:
        """The group of every one of so many rows, `groups` for none."""
        if self.how == "alone":
            return np.full(rows, self.groups)
        if self.how == "repeat":
            return np.repeat(np.arange(self.groups), rows // self.groups)
        if self.how == "tile":
            return np.tile(np.arange(self.groups), rows // self.groups)
        assert self.index is not None  # rows are told by index
        return np.asarray(self.index)

    def add(self, rows: Array) -> tuple[Array, Array]:
        """(sums by group, the sum of rows that belong to none)."""
        flat, none = rows.reshape(-1), jnp.zeros((), rows.dtype)
        if self.how == "alone":
            return jnp.zeros(self.groups, rows.dtype), flat.sum()
        if self.how == "repeat":
            return flat.reshape(self.groups, -1).sum(axis=1), none
        if self.how == "tile":
            return flat.reshape(-1, self.groups).sum(axis=0), none
        assert self.index is not None  # rows are told by index
        sums = jax.ops.segment_sum(flat, self.index, self.groups + 1)
        return sums[:-1], sums[-1]


class Layout(eqx.Module):
    """Latents in independent groups, all of one size.

    Attributes:
        sites: the names of the sites that are integrated out.
        members: (G, k) positions of every group's latents in the flat vector of these sites.
        owners: site (and `site|` for its Jacobian) -> the groups of its rows.
        quadratic: whether the log density is quadratic in the groups' latents.
    """

    sites: tuple[str, ...] = eqx.field(static=True)
    members: np.ndarray
    owners: dict[str, Owners]
    quadratic: bool = eqx.field(static=True, default=False)

    @property
    def groups(self) -> int:
        """G."""
        return self.members.shape[0]

    @property
    def size(self) -> int:
        """k, the latents of one group."""
        return self.members.shape[1]

    @property
    def rows(self) -> float:
        """Of one group, on average."""
        return sum(own.rows for own in self.owners.values())

    def by_group(self, rows: dict[str, Any]) -> tuple[Array, Array]:
        """(log density of every group, that of all rows without one), in nats."""
        found = [self.owners[name].add(jnp.asarray(value)) for name, value in rows.items()]
        groups = sum((own for own, _ in found), start=jnp.zeros(self.groups))
        return groups, sum((rest for _, rest in found), start=jnp.zeros(()))
