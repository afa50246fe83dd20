"""Latents in blocks along a line of which only neighbours depend on each other, by reverse Cuthill-McKee."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from jensen._base.typing import Array

SMALLEST, STEP = 16, 15_000.0
"""Places in a block at least: a loop over blocks of one or two would be all overhead. Multiplications that take as long
as a step of the loop does besides."""


class Line(eqx.Module):
    """Some of D latents in G blocks of b places, the last of them padded.

    Attributes:
        latent: (G b,) the latent at every place, D for none.
    """

    blocks: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    latent: np.ndarray

    @classmethod
    def of(cls, found: sparse.csr_matrix, own: np.ndarray, size: int) -> "Line":
        """`own` latents of `size`, whose pattern is `found`; in one block where there would be fewer than three."""
        latent = np.asarray(reverse_cuthill_mckee(found, symmetric_mode=True), int) if len(own) else np.zeros(0, int)
        place = np.argsort(latent)
        ends: Any = found.tocoo()
        width = max(int(np.abs(place[ends.row] - place[ends.col]).max(initial=0)), SMALLEST)
        blocks = -(-len(own) // width)
        if blocks < 3:
            return cls(1, len(own), size, own)
        return cls(blocks, width, size, np.concatenate([own[latent], np.full(blocks * width - len(own), size)]))

    @property
    def work(self) -> float:
        """Multiplications of a factorisation."""
        cube = float(self.width) ** 3
        return cube / 3.0 if self.blocks == 1 else self.blocks * (7.0 / 3.0 * cube + STEP)

    @property
    def bytes(self) -> float:
        """Of its blocks."""
        return 8.0 * (1 if self.blocks == 1 else 2) * self.blocks * float(self.width) ** 2

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(2, G, b, b) latents of the entries' rows and columns, along and below the diagonal; `size` for none."""
        own = self.latent.reshape(self.blocks, self.width)
        after = np.concatenate([own[1:], np.full((1, self.width), self.size)])
        shape = (self.blocks, self.width, self.width)
        row = np.stack([np.broadcast_to(one[:, :, None], shape) for one in (own, after)])
        return row, np.broadcast_to(own[None, :, None, :], row.shape)

    def placed(self, values: Array) -> Array:
        """Latents (D, m) as (G, b, m), zero where there is none."""
        padded = jnp.concatenate([values, jnp.zeros_like(values[:1])])
        return padded[self.latent].reshape(self.blocks, self.width, -1)

    def put(self, blocks: Array, values: Array) -> Array:
        """Latents (D, m) with these replaced by (G, b, m)."""
        return jnp.asarray(values).at[self.latent].set(blocks.reshape(self.blocks * self.width, -1), mode="drop")
