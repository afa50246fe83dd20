"""Rows with differing numbers of entries, padded to a few lengths."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jensen._base.arguments import whole_number
from jensen._base.errors import DataError, OptionError
from jensen._data.columns import as_array, as_mapping
from jensen._data.sources.contract import AbstractSource, Batch, Piece
from jensen._data.sources.rows import BATCH


class Ragged(AbstractSource):
    """Rows with differing numbers of entries, such as the words of documents, padded to a few lengths.

    Stands in the place of the data: `jn.fit(model, jn.Ragged(...), "svi")`. The model sees arrays of shape
    (rows, length), zero where a row has fewer entries, and takes the sizes of its plates from them. It must give padded
    entries no weight, by `handlers.scale(scale=count)` or `handlers.mask(mask=count > 0)`; this is checked, and refused
    with the site. Batches are stratified by length. The padded rows are held in memory; the factors of rows are not.

    Attributes:
        entries: name -> values of all entries, in any order; one of them is zero for padded entries only.
        row: for each entry, the number of its row, 0..N-1; a number without entries is an empty row.
        batch_size: rows of a batch, about; `None` takes 256, or all where there are fewer.
        rows: name -> one value per row; shared: arguments that are the same for every batch.
        lengths: how many different lengths to pad to, each a compilation.

    Errors: `DataError` for arrays of differing lengths, by name; `OptionError` for a batch above the number of rows.

    Example:
        >>> import jensen as jn, numpyro, numpyro.distributions as dist, numpy as np
        >>> words = {"word": [0, 0, 1, 2, 3, 3, 2], "count": [2, 1, 1, 3, 2, 1, 1]}
        >>> source = jn.Ragged(words, row=[0, 1, 1, 2, 2, 3, 3], batch_size=2, lengths=1)
        >>> source.example().arguments["count"].tolist()
        [[2, 0], [1, 1]]
        >>> def topics(word, count):
        ...     with numpyro.plate("topic", 2):
        ...         phi = numpyro.sample("phi", dist.Dirichlet(np.full(4, 0.5)))
        ...     with numpyro.plate("document", word.shape[0], dim=-2):
        ...         theta = numpyro.sample("theta", dist.Dirichlet(np.ones(2)))
        ...         with numpyro.plate("entry", word.shape[1], dim=-1), numpyro.handlers.scale(scale=count):
        ...             z = numpyro.sample("z", dist.Categorical(theta))
        ...             numpyro.sample("w", dist.Categorical(phi[z]), obs=word)
        >>> jn.fit(topics, source, "svi").q.means()["phi"].shape
        (2, 4)
    """

    size: int
    shared: dict[str, Any]
    padded: frozenset[str]
    steps: int

    def __init__(
        self,
        entries: Mapping[str, Any],
        row: Any,
        batch_size: int | None = None,
        *,
        rows: Mapping[str, Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        lengths: int = 6,
    ):
        row = as_array("row", row)
        if row.dtype.kind == "f" and np.all(row == np.round(row)):
            row = row.astype(int)
        entries = {name: as_array(name, values) for name, values in as_mapping(entries).items()}
        rows = {name: as_array(name, values) for name, values in as_mapping(rows).items()}
        if row.dtype.kind not in "iu" or row.ndim != 1 or row.size == 0 or row.min() < 0:
            raise DataError("`row` must hold whole numbers from 0 on, one per entry.", "Argument: row.")
        order, counts = np.argsort(row, kind="stable"), np.bincount(row)
        self.size = int(counts.size)
        _check_lengths(entries, len(row), "entries")
        _check_lengths(rows, self.size, "rows")
        lengths = whole_number(lengths, "lengths")
        batch_size = None if batch_size is None else whole_number(batch_size, "batch_size")
        if batch_size is not None and batch_size > self.size:
            raise OptionError(
                f"batch_size is {batch_size}, but there are {self.size} rows.",
                "Argument: batch_size.",
                "Use at most as many rows as there are.",
            )
        self.shared, self.padded = dict(shared or {}), frozenset(entries)
        starts = np.concatenate(([0], np.cumsum(counts)))
        self.steps = max(1, self.size // (batch_size or min(BATCH, self.size)))
        self.strata: list[tuple[dict[str, np.ndarray], np.ndarray, int]] = []
        low = -1
        for length in _lengths(counts, lengths):
            members = np.flatnonzero((counts > low) & (counts <= length))
            low = length
            place = np.arange(length)[None, :]
            real = place < counts[members][:, None]
            index = order[np.minimum(starts[members][:, None] + place, len(row) - 1)]
            padded = {k: np.where(real, np.asarray(v)[index], 0) for k, v in entries.items()}
            own = {k: np.asarray(v)[members] for k, v in rows.items()}
            self.strata.append(({**padded, **own}, members, max(2, round(len(members) / self.steps))))

    def example(self) -> Piece:
        """The shortest rows."""
        arrays, members, count = self.strata[0]
        return self._piece(arrays, members, np.arange(count) % len(members), None)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """In each batch some rows of every length."""
        orders = [rng.permutation(len(members)) for _, members, _ in self.strata]
        for step in range(self.steps):
            pieces = []
            for (arrays, members, count), order in zip(self.strata, orders, strict=True):
                rows = order[(step * count + np.arange(count)) % len(members)]
                pieces.append(self._piece(arrays, members, rows, np.full(count, len(members) / count)))
            yield tuple(pieces)

    def whole(self) -> Iterator[Batch]:
        """Length by length."""
        for arrays, members, count in self.strata:
            for start in range(0, len(members), count):
                rows = np.arange(start, start + count)
                seen = (rows < len(members)) * 1.0
                yield (self._piece(arrays, members, np.minimum(rows, len(members) - 1), seen),)

    def _piece(self, arrays: dict[str, np.ndarray], members: np.ndarray, rows: np.ndarray, weights: Any) -> Piece:
        taken = {k: v[rows] for k, v in arrays.items()}
        shared = frozenset(self.shared) - frozenset(arrays)
        place = lambda row: f"row {members[rows[row]]}"  # noqa: E731
        return Piece({**self.shared, **taken}, weights, shared, place, self.padded)


def _check_lengths(arrays: Mapping[str, Any], expected: int, what: str) -> None:
    for name, values in arrays.items():
        if len(values) != expected:
            raise DataError(
                f"'{name}' has {len(values)} {what}, but `row` has {expected}.",
                f"Data key: '{name}'.",
                f"Give one value for each of the {what}.",
            )


def _lengths(counts: np.ndarray, most: int) -> list[int]:
    """At most `most` lengths to pad to, so that the padded entries are fewest (dynamic programming)."""
    values, rows = np.unique(np.maximum(counts, 1), return_counts=True)
    if len(values) > 400:
        keep = np.unique(np.concatenate((np.linspace(0, len(values) - 1, 400).astype(int), [len(values) - 1])))
        rows = np.add.reduceat(rows, np.concatenate(([0], keep[:-1] + 1)))
        values = values[keep]
    total = np.concatenate(([0], np.cumsum(rows)))
    cost = np.where(np.arange(len(values) + 1) == 0, 0.0, np.inf)
    choices = []
    for _ in range(min(most, len(values))):
        reach = cost[None, :-1] + values[:, None] * (total[1:, None] - total[None, :-1])
        reach = np.where(np.tri(len(values), dtype=bool), reach, np.inf)
        choices.append(np.argmin(reach, 1))
        cost = np.concatenate(([0.0], reach.min(1)))
    found, end = [], len(values) - 1
    for choice in reversed(choices):
        found.append(int(values[end]))
        end = int(choice[end]) - 1
        if end < 0:
            break
    return found[::-1]
