"""Latents whose rows are picked by an index that is data, c[group[n]]: sums of log densities by row."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._discrete.layout import DiscreteLayout, DiscreteSite
from jensen._discrete.program import Piece
from jensen._discrete.table import Table, full


class CouplingError(Exception):
    """`site` has entries that meet in a factor of the sites `names` in a way its mode does not allow."""

    def __init__(self, site: DiscreteSite, names: tuple[str, ...]):
        self.site, self.names = site, names
        super().__init__(f"{site.name}: {names}")


def joint_picks(pieces: list[Piece], names: tuple[str, ...], layout: DiscreteLayout) -> dict[int, np.ndarray]:
    """Which rows the entries of several factors together pick."""
    picks: dict[int, np.ndarray] = {}
    for piece in pieces:
        for axis, index in piece.picks.items():
            known = picks.get(axis, np.asarray(-1))
            if ((known >= 0) & (index >= 0) & (known != index)).any():
                raise CouplingError(layout.owner(axis), names)
            picks[axis] = np.maximum(known, index)
    return picks


def steady_picks(piece: Piece, layout: DiscreteLayout, axes: tuple[int, ...]) -> dict[int, np.ndarray]:
    """The rows that a chain's factors pick, which have to be the same at all steps: what is left is one factor."""
    time = layout.owners(axes)[0].time
    assert time is not None
    out = {}
    for axis, index in piece.picks.items():
        whole, where = np.broadcast_to(index, piece.shape), len(piece.shape) + time[0]
        out[axis] = np.take(whole, [0], where)
        if (whole != out[axis]).any():
            raise CouplingError(layout.owner(axis), piece.names)
    return out


def by_group(piece: Piece, layout: DiscreteLayout) -> list[Piece]:
    """The factor on the rows that its entries pick: log densities added up for every row and value of the latent.

    Entries with the same row are independent given its value, so that G rows cost K sums each, not K^G.
    """
    (axis, index), *others = piece.picks.items()
    site = layout.owner(axis)
    apart = [own for own in layout.owners(piece.table.axes) if own is not site]
    by_entry = piece.scale is not None and np.prod(piece.scale[1].natural, dtype=int) > 1
    if others or by_entry or any(own.dims for own in apart):
        raise CouplingError(site, piece.names)
    table = full(piece.table, piece.shape)
    entries = jnp.reshape(table.array, (*np.shape(table.array)[: len(table.axes)], -1))
    rows, count = np.broadcast_to(index, piece.shape).reshape(-1), int(np.prod(site.shape, dtype=int))
    seen = np.flatnonzero(rows >= 0)
    sums = jax.ops.segment_sum(jnp.moveaxis(entries[..., seen], -1, 0), jnp.asarray(rows[seen]), count)
    grouped = jnp.reshape(jnp.moveaxis(sums, 0, -1), (*np.shape(entries)[:-1], *site.shape))
    new = [Piece(piece.names, Table(grouped, table.axes), site.shape, piece.scale)]
    if len(seen) < len(rows):  # what no row has a say in is the same for all values
        where = table.axes.index(axis)
        left = jnp.sum(jnp.take(entries[..., np.flatnonzero(rows < 0)], 0, axis=where), axis=-1)
        kept = tuple(a for a in table.axes if a != axis)
        new.append(Piece(piece.names, Table(left, kept), (), piece.scale))
    return new
