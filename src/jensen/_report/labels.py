"""Which scalars a plot shows, under which names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jensen._base.errors import OptionError, nearest

if TYPE_CHECKING:
    from jensen._fit.result import Fit


@dataclass(frozen=True)
class Scalars:
    """Draws of chosen scalars: label -> (draws,); `left` counts those that were left out."""

    draws: dict[str, np.ndarray]
    left: int

    @property
    def total(self) -> int:
        """How many there are to choose from."""
        return len(self.draws) + self.left

    @property
    def note(self) -> str:
        """What to say about those that are not shown."""
        return f"{len(self.draws)} of {self.total:,} scalars" if self.left else ""


def choose(fit: Fit, draws: dict[str, np.ndarray], var_names: list[str] | None, limit: int) -> Scalars:
    """At most `limit` scalars, the first of every site and then more of each in turn.

    Sites come in the model's order, deterministic ones last; scalars that do not vary are left out, and so are labels
    and counts where there are continuous scalars to show, unless asked for.
    """
    for name in var_names or ():
        if name not in draws:
            raise OptionError(f"There is no site '{name}'.", "Argument: var_names.", nearest(name, draws))
    order = [site.name for site in fit.structure.drawn + fit.structure.deterministic if site.name in draws]
    if any(draws[name].dtype.kind == "f" for name in order):
        order = [name for name in order if draws[name].dtype.kind == "f"]
    columns: list[list[tuple[str, np.ndarray]]] = []
    for name in var_names or order:
        values = draws[name].reshape(len(draws[name]), -1)
        shape = draws[name].shape[1:]
        labels = [f"{name}[{','.join(map(str, i))}]" if shape else name for i in np.ndindex(shape)]
        varying = np.ptp(values, axis=0) > 0
        columns.append([(labels[i], values[:, i]) for i in np.flatnonzero(varying)])
    total = sum(map(len, columns))
    quota = _share([len(column) for column in columns], limit)
    shown = {label: values for column, count in zip(columns, quota, strict=True) for label, values in column[:count]}
    return Scalars(shown, total - len(shown))


def _share(sizes: list[int], limit: int) -> list[int]:
    """How many of each: everyone gets one more in turn, in order, until the limit is reached."""
    quota = [0] * len(sizes)
    while sum(quota) < min(limit, sum(sizes)):
        for index, size in enumerate(sizes):
            if quota[index] < size and sum(quota) < limit:
                quota[index] += 1
    return quota
