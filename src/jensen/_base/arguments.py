"""Checks of arguments: one sentence for each kind of nonsense, wherever it is given."""

import math
import numbers
from typing import Any

from jensen._base.errors import OptionError

LARGEST_SEED = 2**53
"""Random streams within one fit take seeds near the one given, and JAX takes 63 bits."""

LARGEST_COUNT = 10**8
"""Draws, starts and the like, which are all held in memory."""


def whole_number(
    value: Any, name: str, where: str = "", least: int = 1, most: int | None = None, remedy: str = ""
) -> int:
    """A whole number in `least`..`most`; raises an `OptionError` that names the argument for anything else.

    >>> whole_number(3, "num_draws")
    3
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        found = int(value)
        if found >= least and (most is None or found <= most):
            return found
    limits = f"of at least {least}" if most is None else f"between {least} and {most}"
    raise OptionError(f"{name} must be a whole number {limits}, got {value!r}.", where or f"Argument: {name}.", remedy)


def count_of(value: Any, name: str, where: str = "") -> int:
    """How many draws, starts or the like: a whole number from 1 to 10^8."""
    return whole_number(value, name, where, most=LARGEST_COUNT)


def seed_of(value: Any) -> int:
    """A seed: a whole number of at least 0."""
    return whole_number(value, "seed", least=0, most=LARGEST_SEED)


def number(value: Any, name: str, where: str = "", low: float = -math.inf, open_low: bool = False) -> float:
    """A finite number of at least `low` (above it, with `open_low`); raises an `OptionError` naming the argument.

    >>> number(0.5, "tolerance", low=0.0)
    0.5
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        found = float(value)
        if math.isfinite(found) and (found > low or (found == low and not open_low)):
            return found
    words = "" if low == -math.inf else f" above {low:g}" if open_low else f" of at least {low:g}"
    raise OptionError(f"{name} must be a finite number{words}, got {value!r}.", where or f"Argument: {name}.")
