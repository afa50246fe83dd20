"""Rows of arrays, in memory or memory-mapped: of the latter nothing but a batch is ever read."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jensen._base.errors import DataError, OptionError
from jensen._data.columns import as_array
from jensen._data.sources.contract import AbstractSource, Batch, Piece

BATCH = 256
"""Rows of a batch where none are asked for."""


class Rows(AbstractSource):
    """Rows of arrays in memory or memory-mapped: every array whose first axis has `size` entries is cut.

    `batch_size=None` takes 256 rows, or all where there are fewer.
    """

    def __init__(self, arguments: Mapping[str, Any], size: int, batch_size: int | None = None, checked: bool = False):
        if batch_size is not None and batch_size > size:
            raise OptionError(
                f"batch_size is {batch_size}, but there are {size} rows.",
                "Option: batch_size.",
                "Use at most as many rows as there are.",
            )
        self.arguments, self.size, self.total = arguments, size, size
        self.batch_size, self.checked = batch_size or min(BATCH, size), checked
        self.cut = [k for k, v in arguments.items() if isinstance(v, np.ndarray) and v.shape[:1] == (size,)]

    def wider(self, rows: int) -> "Rows":
        """The same rows in batches of `rows`, if these are more than now."""
        more = min(rows, self.total)
        return self if more <= self.batch_size else Rows(self.arguments, self.total, more, self.checked)

    def example(self) -> Piece:
        """The first rows."""
        return self._piece(np.arange(self.batch_size), None)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """A random permutation, cut into batches; what is left over waits for the next."""
        count = self.total // self.batch_size
        order = rng.permutation(self.total)[: count * self.batch_size].reshape(count, self.batch_size)
        scale = np.full(self.batch_size, self.total / self.batch_size)
        for rows in order:
            yield (self._piece(np.sort(rows), scale),)

    def whole(self) -> Iterator[Batch]:
        """The rows in order."""
        for start in range(0, self.total, self.batch_size):
            rows = np.arange(start, start + self.batch_size)
            yield (self._piece(np.minimum(rows, self.total - 1), (rows < self.total) * 1.0),)

    def _piece(self, rows: np.ndarray, weights: np.ndarray | None) -> Piece:
        taken = {k: np.asarray(self.arguments[k][rows]) for k in self.cut}
        shared = frozenset(self.arguments) - frozenset(self.cut)
        return Piece({**self.arguments, **taken}, weights, shared, lambda row: f"row {rows[row]}")


def mapped(data: Any, batch_size: int | None) -> Rows | None:
    """The rows of memory-mapped arrays, and of whatever lies beside them; `None` where nothing is memory-mapped."""
    if not isinstance(data, Mapping):
        return None
    lengths = {k: len(v) for k, v in data.items() if isinstance(v, np.memmap) and v.ndim}
    if not lengths:
        return None
    size = max(lengths.values())
    for name, length in lengths.items():
        if length < size and 2 * length > size:  # far shorter ones are tables that all rows share
            raise DataError(
                f"'{name}' has {length} rows, but other memory-mapped arrays have {size}.",
                f"Data key: '{name}'.",
                "Map arrays of equally many rows; read those that all rows share into memory.",
            )
    plain = (bool, int, str, Mapping, type(None), np.memmap)
    held = {k: v if isinstance(v, plain) else as_array(k, v) for k, v in data.items()}
    return Rows(held, size, batch_size)
