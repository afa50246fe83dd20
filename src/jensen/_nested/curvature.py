"""Where the second derivatives of a log density are, and how they are computed without forming a matrix.

Rows that see few latents: latents of one colour are seen by no row together, so that the second derivative along two
colours is, row by row, that of one pair of latents. A few derivatives of derivatives give all entries, whatever the
number of latents (Gebremedhin, Manne and Pothen 2005). A single row that sees many has a curvature of rank one, or is
told by products with its own colours, as is every other row.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jensen._base.typing import Array
from jensen._nested.factor import Entries
from jensen._nested.unsummed import Unsummed

AT_ONCE = 128
"""Products computed together."""


class Curvature(eqx.Module):
    """The entries of -∂²f/∂z², as `entries` of f.

    Attributes:
        narrow, wide: numbers of f's arrays of rows that are told by pairs of colours, and by products; `None` for all.
        single: numbers of arrays of one row that see many latents, with curvature of rank one, together.
        colours: (C, D) for every colour ones at its latents. pairs: (P, 2) colours along which rows have curvature.
        probe: (D,) a direction along which single rows have curvature.
        directions: (K, D) along which there are products, `None` for all of them.
        take, slot: (T,) a value among those of the pairs (P, R) and products (K, D), laid flat, and its entry.
        count: entries.
    """

    narrow: tuple[int, ...] = eqx.field(static=True)
    wide: tuple[int, ...] | None = eqx.field(static=True)
    single: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    count: int = eqx.field(static=True)
    colours: np.ndarray
    pairs: np.ndarray
    probe: np.ndarray
    directions: np.ndarray | None
    take: np.ndarray
    slot: np.ndarray

    @property
    def cost(self) -> int:
        """Evaluations of f that the entries cost."""
        size = self.colours.shape[1]
        products = (size if self.directions is None else len(self.directions)) if self.wide != () else 0
        return 2 * len(self.pairs) + 3 * products + 3 * len(self.single) + 1

    def entries(self, density: Unsummed, z: Array) -> Entries:
        """At z (D,)."""
        values = [jnp.zeros(0, z.dtype)]
        if self.narrow:
            values.append(-along_pairs(density, z, self.narrow, self.colours, self.pairs).reshape(-1))
        if self.wide != ():
            directions = jnp.eye(len(z), dtype=z.dtype) if self.directions is None else self.directions
            values.append(-products(density, z, self.wide, jnp.asarray(directions, z.dtype)).reshape(-1))
        flat = jnp.concatenate(values)
        found = jax.ops.segment_sum(flat[self.take], self.slot, self.count, indices_are_sorted=True)
        if not self.single:
            return Entries(found, jnp.zeros((len(z), 0), z.dtype), jnp.zeros(0, z.dtype))
        probe = jnp.asarray(self.probe, z.dtype)[None]
        columns = jnp.concatenate([products(density, z, one, probe) for one in self.single])
        along = -columns @ probe[0]
        weights = jnp.where(along == 0.0, 0.0, 1.0 / jnp.where(along == 0.0, 1.0, along))
        return Entries(found, columns.T, weights)


def along_pairs(density: Unsummed, z: Array, which: tuple[int, ...], colours: Any, pairs: Any) -> Array:
    """Second derivatives of the rows of some arrays along pairs of directions, (P, R)."""
    directions = jnp.asarray(colours, z.dtype)

    def rows(z: Array) -> Array:
        found = density.rows(z)
        return jnp.concatenate([found[i] for i in which])

    def second(pair: Array) -> Array:
        first, other = directions[pair[0]], directions[pair[1]]
        slope = lambda z: jax.jvp(rows, (z,), (first,))[1]  # noqa: E731
        return jax.jvp(slope, (z,), (other,))[1]

    return jax.vmap(second)(jnp.asarray(pairs))


def products(density: Unsummed, z: Array, which: tuple[int, ...] | None, directions: Array) -> Array:
    """Products of the second derivative of some arrays' sum with directions (m, D), (m, D)."""

    def total(z: Array) -> Array:
        found = density.rows(z)
        return sum((jnp.sum(found[i]) for i in which or ()), jnp.zeros((), z.dtype))

    along = jax.linearize(jax.grad(density if which is None else total), z)[1]
    if len(directions) == 1:
        return along(directions[0])[None]
    return lax.map(jax.checkpoint(along), directions, batch_size=AT_ONCE)
