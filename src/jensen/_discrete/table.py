"""Arrays with enumerated axes in front, in which an axis of size one may stand for a longer one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, eq=False)
class Table:
    """A value of the program for every value of the discrete latents that it depends on.

    `axes` are the enumerated ones, in rising order, and come first in `array`; the value's own ("natural") axes follow.
    A natural axis along which nothing varies may be stored with size one.
    """

    array: Any
    axes: tuple[int, ...] = ()

    @property
    def natural(self) -> tuple[int, ...]:
        """The stored sizes of the natural axes."""
        return np.shape(self.array)[len(self.axes) :]


@dataclass(frozen=True, eq=False)
class Alternating(Table):
    """A chain's value: that of even steps over one enumerated axis, `pair[0]`, that of odd ones over another.

    The steps are the first natural axis. Where only every second one is looked at, a table of one axis says it all.
    """

    pair: tuple[Table, Table] = (Table(None), Table(None))

    def every_second(self, start: int) -> Table:
        """The steps from `start` on that have its parity."""
        return self.pair[start % 2]


def union(tables: Sequence[Table]) -> tuple[int, ...]:
    """The enumerated axes of several tables together."""
    return tuple(sorted({axis for table in tables for axis in table.axes}))


def lift(table: Table, axes: Sequence[int], ndim: int) -> Any:
    """The array with all of `axes` in front (size one where it lacks one) and `ndim` natural axes, right aligned."""
    own = dict(zip(table.axes, np.shape(table.array), strict=False))
    front = [own.get(axis, 1) for axis in axes]
    shape = (*front, *([1] * (ndim - len(table.natural))), *table.natural)
    return table.array if shape == np.shape(table.array) else jnp.reshape(table.array, shape)


def full(table: Table, shape: Sequence[int], at: Sequence[int] | None = None) -> Table:
    """The table with its natural axes (all, or those named by `at`) at their full sizes."""
    wanted = [n if at is None or i in at else table.natural[i] for i, n in enumerate(shape)]
    if tuple(wanted) == table.natural:
        return table
    front = np.shape(table.array)[: len(table.axes)]
    return Table(jnp.broadcast_to(table.array, (*front, *wanted)), table.axes)


def add(tables: Sequence[Table]) -> Table:
    """The sum of several tables over the union of their axes, natural axes right aligned."""
    axes, ndim = union(tables), max(len(t.natural) for t in tables)
    out = lift(tables[0], axes, ndim)
    for table in tables[1:]:
        out = out + lift(table, axes, ndim)
    return Table(out, axes)
