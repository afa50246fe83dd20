"""Forward recursions along chains of discrete states."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._discrete.layout import DiscreteLayout
from jensen._discrete.program import Piece
from jensen._discrete.reduce import Reduce
from jensen._discrete.table import Table, full, lift


def forward(
    pieces: list[Piece], whole: Piece, layout: DiscreteLayout, axes: tuple[int, ...], reduce: Reduce, key: Any
) -> Piece:
    """The forward recursion along a chain: α_t(b) = log Σ_a exp(α_{t-1}(a) + F_t(a, b)), then the sum over b.

    A table holds F_t with the value of even steps on one axis and that of odd steps on the other, so that the recursion
    goes by pairs of steps, the odd one summing over the even axis and the even one over the odd axis. Pieces that came
    in parts are added up step by step: what is the same at all steps is never spelled out. Cost: K² for each step.
    """
    sites = layout.owners(axes)
    time = sites[0].time
    assert time is not None
    own, ndim, where = whole.table.axes, len(whole.shape), len(whole.shape) + time[0]
    even_axes, odd_axes = ([own.index(site.axes[i]) for site in sites] for i in (0, 1))
    split = [_parts(piece, time[0]) for piece in pieces]
    # (first, odd, even) -> for each piece its array over the enumerated axes and those of the plates, time leading
    first, odd, even = ([_leading(parts[i], own, ndim, where) for parts in split] for i in range(3))
    plates = [n for i, n in enumerate(whole.shape) if i != where]
    natural = np.broadcast_shapes(*(array.shape[1 + len(own) :] for part in (first, odd, even) for array in part))
    natural = tuple(np.broadcast_shapes(natural, (1,) * len(plates)))
    sizes = [layout.sizes[axis] for axis in own]

    def shaped(alpha: Any, gone: list[int]) -> Any:
        """Over every axis but those summed out, so that it is the same at all steps."""
        return jnp.broadcast_to(alpha, (*(1 if i in gone else n for i, n in enumerate(sizes)), *natural))

    def summed(total: Any, gone: list[int], key: Any) -> tuple[Any, Any]:
        for axis in gone:
            key, own_key = (None, None) if key is None else jax.random.split(key)
            total = reduce(total, axis, own_key)
        return shaped(total, gone), key

    def step(carry: tuple[Any, Any], factors: list[Any], gone: list[int]) -> tuple[Any, Any]:
        alpha, key = carry
        return summed(sum(factors, alpha), gone, key)

    carry = shaped(_begun(first, odd_axes), odd_axes), key
    pairs = (time[1] - 1) // 2
    moving = [[i for i, array in enumerate(part) if array.shape[0] > 1] for part in (odd, even)]

    def both(carry: tuple[Any, Any], now: tuple[list[Any], list[Any]]) -> tuple[tuple[Any, Any], None]:
        for part, which, values, gone in zip((odd, even), moving, now, (even_axes, odd_axes), strict=True):
            given = dict(zip(which, values, strict=True))
            carry = step(carry, [given.get(i, array[0]) for i, array in enumerate(part)], gone)
        return carry, None

    if pairs:
        over: Any = tuple([part[i][:pairs] for i in which] for part, which in zip((odd, even), moving, strict=True))
        carry, _ = jax.lax.scan(both, carry, over, length=pairs)
    last = even_axes
    if time[1] % 2 == 0:
        carry, last = step(carry, [array[-1] for array in odd], even_axes), odd_axes
    alpha, _ = _end(carry, last, reduce)
    alpha = jnp.squeeze(alpha, (*even_axes, *odd_axes))
    kept = tuple(axis for axis in own if axis not in axes)
    alpha = jnp.expand_dims(alpha, len(kept) + where)  # the time axis went with the recursion: one of size one
    shape = tuple(1 if i == where else n for i, n in enumerate(whole.shape))
    return Piece(whole.names, Table(alpha, kept), shape, whole.scale)


def _begun(first: list[Any], odd_axes: list[int]) -> Any:
    """Σ F_1: nothing was before, so that the axes of the step before have one entry."""
    for axis in odd_axes:
        first = [jax.lax.slice_in_dim(array, 0, 1, axis=1 + axis) for array in first]
    return sum((array[0] for array in first), start=0.0)


def _end(carry: tuple[Any, Any], last: list[int], reduce: Reduce) -> tuple[Any, Any]:
    alpha, key = carry
    for axis in last:
        key, own_key = (None, None) if key is None else jax.random.split(key)
        alpha = reduce(alpha, axis, own_key)
    return alpha, key


def _parts(piece: Piece, time: int) -> tuple[Table, ...]:
    """The first step, odd steps and even ones of a piece."""
    along_first = len(piece.shape) + time == 0
    if piece.parts is not None and len(piece.parts) == 3 and along_first:  # not a chain of one or two steps
        return piece.parts
    table = full(piece.table, piece.shape, [len(piece.shape) + time])
    where = np.ndim(table.array) + time

    def taken(start: int, stop: int | None, stride: int) -> Table:
        steps = slice(start, stop, stride)
        return Table(table.array[(slice(None),) * where + (steps,)], table.axes)

    return taken(0, 1, 1), taken(1, None, 2), taken(2, None, 2)


def _leading(table: Table, own: tuple[int, ...], ndim: int, where: int) -> Any:
    """The array over all enumerated axes and plates, with time, which may be stored with size one, in front."""
    return jnp.moveaxis(lift(table, own, ndim), len(own) + where, 0)
