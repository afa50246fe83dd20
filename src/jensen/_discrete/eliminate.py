"""Discrete latents summed out of a product of tables, one after the other. Obermeyer et al. (2019), algorithm 1.

Rows of a plate are independent given what lies outside the plate, so inside the innermost plates every latent that
lives there is summed out row by row; then the rows are multiplied (log densities added), and so on outwards. A latent
outside a plate is therefore summed out after the product over its rows.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._discrete.chain import forward
from jensen._discrete.groups import CouplingError, by_group, joint_picks, steady_picks
from jensen._discrete.interpret import TooManyStatesError
from jensen._discrete.layout import DiscreteLayout, Mode
from jensen._discrete.program import ELEMENTS, STATES, Piece
from jensen._discrete.reduce import Reduce
from jensen._discrete.table import Table, add, full, lift

Dims = frozenset[tuple[int, int]]


def check_dims(pieces: list[Piece], layout: DiscreteLayout) -> None:
    """Raise `CouplingError` for a factor that depends on a latent but lacks one of its batch axes."""
    for piece in pieces:
        for site in layout.owners(piece.table.axes):
            if not site.dims <= piece.dims and not set(site.axes) & set(piece.picks):
                raise CouplingError(site, piece.names)


def eliminate(
    pieces: list[Piece], layout: DiscreteLayout, scales: Mapping[str, Any], reduce: Reduce, key: Any
) -> list[Piece]:
    """The pieces with every discrete latent summed out; `scales` names the scale that each site is under."""
    steps = itertools.count()

    def next_key() -> Any:
        return None if key is None else jax.random.fold_in(key, next(steps))

    check_dims(pieces, layout)
    pieces = [_settle(piece, layout, scales) for piece in pieces]
    done = [piece for piece in pieces if not piece.table.axes]
    open_pieces = [piece for piece in pieces if piece.table.axes]
    while open_pieces:
        leaf, found = _next(open_pieces, layout)
        rest = [piece for piece in open_pieces if piece not in leaf]
        if found:
            axes, chain = found
            involved = [piece for piece in leaf if set(axes) & set(piece.table.axes)]
            rest += [piece for piece in leaf if piece not in involved]
            whole = _combine(involved, layout)
            steady = steady_picks(whole, layout, axes) if chain else {}
            step = forward(involved, whole, layout, axes, reduce, next_key()) if chain else None
            new = [
                replace(step, picks=steady) if step else _sum_out(whole, involved, axes[0], reduce, next_key(), layout)
            ]
        elif any(piece.picks for piece in leaf):
            new = [one for piece in leaf for one in (by_group(piece, layout) if piece.picks else [piece])]
        else:
            new = [_product(piece, layout) for piece in leaf]
        new = [_settle(piece, layout, scales) for piece in new]
        done += [piece for piece in new if not piece.table.axes]
        open_pieces = rest + [piece for piece in new if piece.table.axes]
    return done


def _next(pieces: list[Piece], layout: DiscreteLayout) -> tuple[list[Piece], tuple[tuple[int, ...], bool] | None]:
    """The pieces of the innermost plates where something can be done, and what `_cheapest` says.

    A latent whose rows are picked by an index elsewhere has to wait until these factors are on its own rows.
    """
    waiting = {axis for piece in pieces for axis in piece.picks}
    order = sorted({piece.dims for piece in pieces}, key=lambda dims: (-len(dims), sorted(dims)))
    for dims in order:
        leaf = [piece for piece in pieces if piece.dims == dims]
        found = _cheapest(leaf, layout, dims, waiting)
        present = {axis for piece in leaf for axis in piece.table.axes}
        if found or any(piece.picks for piece in leaf) or not present & waiting:
            return leaf, found
    raise AssertionError  # some piece holds the axis that waits


def _settle(piece: Piece, layout: DiscreteLayout, scales: Mapping[str, Any]) -> Piece:
    """Raise a piece to its power as soon as no latent under the same scale is left in it."""
    if piece.scale is None:
        return piece
    name, scale = piece.scale
    if any(scales.get(site.name) == name for site in layout.owners(piece.table.axes)):
        return piece
    table = full(piece.table, piece.shape) if scale.natural else piece.table
    ndim = len(piece.shape)
    axes = table.axes
    raised = Table(lift(table, axes, ndim) * lift(scale, axes, ndim), axes)
    return Piece(piece.names, raised, piece.shape, picks=piece.picks)


def _cheapest(
    leaf: list[Piece], layout: DiscreteLayout, dims: Dims, waiting: set[int]
) -> tuple[tuple[int, ...], bool] | None:
    """The enumerated axes to sum out next, and whether they are those of chains; latents of these plates only."""
    local = [site for site in layout.owners(axis for piece in leaf for axis in piece.table.axes) if site.dims == dims]
    present = {axis for piece in leaf for axis in piece.table.axes}
    ready = present - waiting
    single = [axis for site in local if site.mode is not Mode.CHAIN for axis in site.axes if axis in ready]
    if single:
        sizes = layout.sizes

        def cost(axis: int) -> float:
            together = {a for piece in leaf if axis in piece.table.axes for a in piece.table.axes}
            return float(np.prod([sizes[a] for a in together], dtype=float))

        return (min(single, key=cost),), False
    chains = [site for site in local if site.mode is Mode.CHAIN]
    if not chains:
        return None
    group = [chains[0]]
    for site in itertools.chain.from_iterable([chains] * len(chains)):  # chains that meet in a factor move together
        together = {axis for one in group for axis in one.axes}
        meets = any(together & set(piece.table.axes) and set(site.axes) & set(piece.table.axes) for piece in leaf)
        group += [site] if meets and site not in group else []
    return tuple(axis for site in group for axis in site.axes), True


def _combine(pieces: list[Piece], layout: DiscreteLayout) -> Piece:
    axes = tuple(sorted({axis for piece in pieces for axis in piece.table.axes}))
    natural = np.broadcast_shapes(*(piece.table.natural for piece in pieces))
    states = float(np.prod([layout.sizes[axis] for axis in axes], dtype=float))
    if states > STATES or states * np.prod(natural, dtype=float) > ELEMENTS:
        raise TooManyStatesError(axes, states)
    names = tuple(dict.fromkeys(name for piece in pieces for name in piece.names))
    scales = {piece.scale[0]: piece.scale for piece in pieces if piece.scale is not None}
    if len(scales) > 1 or (scales and any(piece.scale is None for piece in pieces)):
        raise ScaleError(names)
    shape = np.broadcast_shapes(*(piece.shape for piece in pieces))
    return Piece(
        names,
        add([p.table for p in pieces]),
        shape,
        next(iter(scales.values()), None),
        picks=joint_picks(pieces, names, layout),
    )


class ScaleError(Exception):
    """A scaled discrete latent meets factors that are not under the same scale; `names` are their sites."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        super().__init__(str(names))


def _sum_out(piece: Piece, involved: list[Piece], axis: int, reduce: Reduce, key: Any, layout: DiscreteLayout) -> Piece:
    def summed(table: Table) -> Table:
        where = table.axes.index(axis)
        array = jnp.squeeze(reduce(table.array, where, key), where)
        return Table(array, tuple(a for a in table.axes if a != axis))

    parts = None
    if all(one.parts is not None and len(one.shape) == len(piece.shape) for one in involved):
        sums = [add(list(tables)) for tables in zip(*(one.parts or () for one in involved), strict=True)]
        if all(axis in table.axes for table in sums):
            parts = tuple(summed(table) for table in sums)
    return Piece(piece.names, summed(piece.table), piece.shape, piece.scale, parts, piece.picks)


def _product(piece: Piece, layout: DiscreteLayout) -> Piece:
    """The product over the rows of the plates that none of the piece's latents is in."""
    sites = layout.owners(piece.table.axes)
    outer: Dims = frozenset().union(*(site.dims for site in sites))
    if outer == piece.dims:
        raise CouplingError(max(sites, key=lambda site: len(site.shape)), piece.names)
    gone = [len(piece.shape) + position for position, size in piece.dims - outer]
    shape = tuple(1 if i in gone else n for i, n in enumerate(piece.shape))

    def product(table: Table) -> Table:
        table, ndim = full(table, piece.shape, gone), len(table.axes)
        lead = len(piece.shape) - len(table.natural)
        array = jnp.sum(table.array, axis=tuple(ndim + i - lead for i in gone), keepdims=True)
        return Table(array, table.axes)

    apart = piece.parts is not None and 0 not in gone  # parts are along the first axis
    parts = tuple(product(part) for part in piece.parts or ()) if apart else None
    return Piece(piece.names, product(piece.table), shape, piece.scale, parts)
