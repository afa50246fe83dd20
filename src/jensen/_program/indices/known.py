"""Arrays that the data and the program's constants determine, with the way back to the entry of the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Back: TypeAlias = Callable[[int], "tuple[Known, int] | None"]
"""Flat position of an entry -> (the array it was made of, flat position in it)."""

MISSING = (
    "-1 is the code of a missing category: leave these rows out, or give the missing ones an entry of their own. (An "
    "entry counted from the end is written x[-1] in the program.)"
)
"""What to do about negative indices."""


@dataclass(eq=False)
class Known:
    """An array that is known before any latent is.

    Attributes:
        array: its entries. keys: the data that it was made of; none for a constant of the program.
        name: the data key, of an array of the data itself.
        back: from an entry to the one that it was made of, where there is one.
        before: the same array before JAX counted negative indices from the end.
        clamped: the same array before it was brought between two constants, as `switch` does with its branches.
        below: what this compares with zero, where it is `what` < 0.
        shifted: (what, n) where this is `what` + n, as JAX counts from the end of an axis of n entries.
        moved: whether its entries are those of another array, elsewhere.
        later: whether it is a constant that only JAX can compute, left out until data meet it; the entries are zeros.
        seen: which entries are known; all if `None`.
        stepped: whether the steps of a loop lead.
    """

    array: np.ndarray
    keys: frozenset[str] = frozenset()
    name: str | None = None
    back: Back | None = None
    before: "Known | None" = None
    clamped: "Known | None" = None
    below: "Known | None" = None
    shifted: "tuple[Known, int] | None" = None
    moved: bool = False
    later: bool = False
    seen: np.ndarray | None = None
    stepped: bool = False


class LaterError(Exception):
    """The data meet a constant that was left out."""


def constant(value: Any, dtype: Any = None) -> Known | None:
    """A constant of the program; `None` for what is no array of numbers."""
    try:
        array = np.asarray(value, dtype)
    except (TypeError, ValueError):
        return None
    return Known(array) if array.dtype.kind in "iufb" else None


def union(values: Any) -> frozenset[str]:
    """The data keys of several arrays."""
    return frozenset().union(*(value.keys for value in values if value is not None))


def origin(value: Known, flat: int) -> tuple[Known, int]:
    """The array at the end of the way back, and the entry's flat position in it."""
    while value.back is not None:
        found = value.back(flat)
        if found is None:
            break
        value, flat = found
    return value, flat
