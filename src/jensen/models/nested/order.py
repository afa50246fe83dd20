"""An order of the latents in which their precision is block-tridiagonal, and how its entries are told from products."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from jensen._typing import Array
from jensen.models.nested.pattern import colouring

SMALLEST = 16
"""Places in a block at least: a loop over blocks of one or two would be all overhead."""

MANY, APART = 300, 4
"""Latents from which on weights are found for stretches of the order, and blocks in one of them."""


class Order(eqx.Module):
    """D latents in G blocks of b places, the last of them padded.

    Attributes:
        place: (D,) place of every latent. latent: (G b,) the latent at every place, D for none.
        colours: (D,) colour of every latent, `None` where each has its own (one dense block).
        entries: (2, G, b, b) where the diagonal and lower blocks are among products (C, D) laid flat, followed by a
            zero and a one.
    """

    blocks: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    count: int = eqx.field(static=True)
    place: np.ndarray
    latent: np.ndarray
    colours: np.ndarray | None = None
    entries: np.ndarray | None = None

    @property
    def size(self) -> int:
        """D."""
        return len(self.place)

    @property
    def parts(self) -> int:
        """Stretches of the order whose weights are told apart; one where the latents are not many."""
        return max(1, self.blocks // APART) if self.size >= MANY else 1

    @property
    def part(self) -> np.ndarray:
        """(G,) the stretch that each block belongs to."""
        return np.arange(self.blocks) * self.parts // self.blocks

    @classmethod
    def dense(cls, size: int) -> "Order":
        """All latents in one block."""
        return cls(1, size, size, np.arange(size), np.arange(size))

    @classmethod
    def of(cls, found: sparse.csr_matrix | None, size: int) -> "Order":
        """By reverse Cuthill-McKee; dense where that leaves fewer than three blocks."""
        if found is None:
            return cls.dense(size)
        latent = np.asarray(reverse_cuthill_mckee(found, symmetric_mode=True), int)
        place = np.argsort(latent)
        ends: Any = found.tocoo()
        band = int(np.abs(place[ends.row] - place[ends.col]).max(initial=0))
        width = max(band, SMALLEST)
        blocks = -(-size // width)
        if blocks < 3:
            return cls.dense(size)
        turned = sparse.csr_matrix(found[latent][:, latent])
        colours = colouring(turned)[place]
        padded = np.concatenate([latent, np.full(blocks * width - size, size)])
        entries = _entries(place, colours, ends, blocks, width)
        return cls(blocks, width, int(colours.max()) + 1, place, padded, colours, entries)

    @property
    def directions(self) -> Array:
        """(C, D): for every colour, ones at its latents."""
        if self.colours is None:
            return jnp.eye(self.size)
        return jnp.asarray(self.colours[None] == jnp.arange(self.count)[:, None], jnp.zeros(()).dtype)

    def assembled(self, products: Array) -> tuple[Array, Array]:
        """Blocks of H, along and below the diagonal, from its products (C, D) with `directions`."""
        if self.entries is None:
            return products[None], jnp.zeros_like(products)[None]
        flat = jnp.concatenate([products.reshape(-1), jnp.array([0.0, 1.0], products.dtype)])
        diagonal, below = flat[self.entries]
        return diagonal, below

    def placed(self, values: Array) -> Array:
        """Latents (D, m) as (G, b, m), zero where there is none."""
        padded = jnp.concatenate([values, jnp.zeros_like(values[:1])])
        return padded[self.latent].reshape(self.blocks, self.width, -1)

    def taken(self, blocks: Array) -> Array:
        """(D, m) of (G, b, m)."""
        return blocks.reshape(self.blocks * self.width, -1)[self.place]


def _entries(place: np.ndarray, colours: np.ndarray, ends: sparse.coo_matrix, blocks: int, width: int) -> np.ndarray:
    """Entry (i, j) of H is coordinate i of the product for j's colour."""
    size, count = len(place), int(colours.max()) + 1
    found = np.full((2, blocks, width, width), size * count, np.int32)
    row, column = place[ends.row], place[ends.col]
    apart = row // width - column // width
    for which in (0, 1):
        own = apart == which
        at = row[own] // width - which
        found[which, at, row[own] % width, column[own] % width] = colours[ends.col[own]] * size + ends.row[own]
    for extra in range(size, blocks * width):
        found[0, extra // width, extra % width, extra % width] = size * count + 1
    return found
