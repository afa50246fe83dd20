"""Where minibatches come from: arrays (memory-mapped ones too), an iterable of batches, or rows of ragged lengths."""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jensen._errors import DataError, OptionError

Given: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A batch as a user gives it: the model's arguments, or a list of them where rows come in several shapes."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of one shape: the model's arguments, and how often each row counts (`None`: as N / B)."""

    arguments: Mapping[str, Any]
    weights: np.ndarray | float | None = None


Batch: TypeAlias = tuple[Piece, ...]


class AbstractSource(abc.ABC):
    """Rows of a plate, in batches.

    Attributes:
        size: rows in all; `None` while they have not been counted.
        repeatable: whether the rows can be passed over again.
    """

    size: int | None
    repeatable: bool = True

    @abc.abstractmethod
    def example(self) -> Piece:
        """A piece of the shape that batches have."""

    @abc.abstractmethod
    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches in random order, each standing for all rows; together about one pass."""

    @abc.abstractmethod
    def whole(self) -> Iterator[Batch]:
        """Every row exactly once: weights 1, and 0 where a row only fills up a batch."""


class Rows(AbstractSource):
    """Rows of arrays in memory or memory-mapped: every array whose first axis has `size` entries is cut."""

    def __init__(self, arguments: Mapping[str, Any], size: int, batch_size: int):
        if batch_size > size:
            raise OptionError(
                f"batch_size is {batch_size}, but there are {size} rows.",
                "Option: batch_size.",
                "Use at most as many rows as there are.",
            )
        self.arguments, self.size, self.total, self.batch_size = arguments, size, size, batch_size
        self.cut = [k for k, v in arguments.items() if isinstance(v, np.ndarray) and v.shape[:1] == (size,)]

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
        return Piece({**self.arguments, **taken}, weights)


class Batches(AbstractSource):
    """Rows from an iterable of batches, such as a reader of files; nothing but one batch is held in memory.

    Attributes:
        batches: a function without arguments that returns a fresh iterable at every pass, or a collection that can be
            passed over again. A one-shot iterator works too: then the fit ends with it, and cannot know that it has
            converged. A batch maps the model's arguments to arrays; a list of such mappings is one batch whose rows
            come in several shapes. They should come in random order.
        size: rows in all; counted in a first pass if not given.
        shared: arguments that are the same for every batch.

    Example:
        >>> x = np.arange(6.0)
        >>> source = Batches(lambda: ({"x": x[i : i + 2]} for i in (0, 2, 4)), size=6, shared={"K": 3})
        >>> [piece.arguments["x"].tolist() for (piece,) in source.whole()]
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Given]] | Iterable[Given],
        *,
        size: int | None = None,
        shared: Mapping[str, Any] | None = None,
    ):
        if not callable(batches) and not isinstance(batches, Iterable):
            raise DataError(
                f"`batches` is a {type(batches).__name__}, which cannot be passed over.",
                "Argument: batches.",
                "Pass a function that returns an iterable of batches, or a list of them.",
            )
        if size is not None and size < 1:
            raise OptionError(f"size is {size}.", "Argument: size.", "Give the number of rows in all, or leave it out.")
        self.batches, self.size, self.shared = batches, size, dict(shared or {})
        self.repeatable = callable(batches) or iter(batches) is not batches
        self._ahead: Iterator[Given] | None = None
        self._head: Batch | None = None
        if size is None and not self.repeatable:
            raise DataError(
                "The number of rows is unknown, and a one-shot iterator cannot be counted first.",
                "Argument: size.",
                "Pass size=, or a function that returns a fresh iterator.",
            )

    def example(self) -> Piece:
        """The first piece of the first batch; a one-shot iterator keeps the batch for its pass."""
        if self._head is None:
            self._head = next(self._pass(), None)
            if self._head is None:
                raise DataError("There is not a single batch.", "Argument: batches.", "Yield at least one batch.")
        return self._head[0]

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches in the order given."""
        if not self.repeatable and self._head is not None:
            yield self._head
        yield from self._pass()

    def whole(self) -> Iterator[Batch]:
        """The batches in the order given, each row once."""
        for batch in self._pass():
            yield tuple(Piece(piece.arguments, 1.0) for piece in batch)

    def _pass(self) -> Iterator[Batch]:
        if self.repeatable:
            found = iter(self.batches() if callable(self.batches) else self.batches)
        else:
            found = self._ahead = self._ahead or iter(self.batches)  # type: ignore[arg-type]
        for number, given in enumerate(found):
            pieces = [given] if isinstance(given, Mapping) else given
            if not isinstance(pieces, Sequence) or not pieces or not all(isinstance(p, Mapping) for p in pieces):
                raise DataError(
                    f"Batch {number} is a {type(given).__name__}, not a mapping of the model's arguments to arrays.",
                    f"Batch {number}.",
                    "Yield dicts such as {'x': rows}, or lists of them.",
                )
            yield tuple(Piece({**self.shared, **piece}) for piece in pieces)


class Ragged(AbstractSource):
    """Rows with differing numbers of entries, such as the words of documents, padded to a few lengths.

    The model sees (rows, length) arrays; where a row has fewer entries they hold zeros. It must give padded entries no
    weight: by `handlers.scale(scale=count)` or `handlers.mask(mask=count > 0)`. Batches are stratified by length.

    Attributes:
        entries: name -> values of all entries, in any order.
        row: for each entry, the number of its row, 0..size-1.
        batch_size: rows of a batch, about.
        rows: name -> one value per row; shared: arguments that are the same for every batch.
        lengths: how many different lengths to pad to.

    Example:
        >>> source = Ragged({"word": [4, 5, 6], "count": [1, 2, 1]}, row=[0, 0, 1], batch_size=2, lengths=1)
        >>> source.example().arguments["count"].tolist()
        [[1, 2], [1, 0]]
    """

    def __init__(
        self,
        entries: Mapping[str, Any],
        row: Any,
        batch_size: int,
        *,
        rows: Mapping[str, Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        lengths: int = 6,
    ):
        row = np.asarray(row)
        if row.dtype.kind not in "iu" or row.ndim != 1 or row.size == 0 or row.min() < 0:
            raise DataError("`row` must hold whole numbers from 0 on, one per entry.", "Argument: row.")
        for name, values in entries.items():
            if len(values) != len(row):
                raise DataError(
                    f"'{name}' has {len(values)} entries, but `row` has {len(row)}.", f"Data key: '{name}'."
                )
        order = np.argsort(row, kind="stable")
        counts = np.bincount(row)
        self.size = int(counts.size)
        for name, values in (rows or {}).items():
            if len(values) != self.size:
                raise DataError(
                    f"'{name}' has {len(values)} rows, but `row` names {self.size}.", f"Data key: '{name}'."
                )
        if batch_size > self.size:
            raise OptionError(f"batch_size is {batch_size}, but there are {self.size} rows.", "Argument: batch_size.")
        self.shared = dict(shared or {})
        starts = np.concatenate(([0], np.cumsum(counts)))
        steps = max(1, self.size // batch_size)
        self.strata: list[tuple[dict[str, np.ndarray], int]] = []
        low = -1
        for length in _lengths(counts, lengths):
            members = np.flatnonzero((counts > low) & (counts <= length))
            low = length
            place = np.arange(length)[None, :]
            real = place < counts[members][:, None]
            index = order[np.minimum(starts[members][:, None] + place, len(row) - 1)]
            padded = {k: np.where(real, np.asarray(v)[index], 0) for k, v in entries.items()}
            own = {k: np.asarray(v)[members] for k, v in (rows or {}).items()}
            self.strata.append(({**padded, **own}, max(2, round(len(members) / steps))))
        self.steps = steps

    def example(self) -> Piece:
        """The shortest rows."""
        arrays, count = self.strata[0]
        return Piece({**self.shared, **{k: v[:count] for k, v in arrays.items()}})

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """In each batch some rows of every length."""
        totals = [len(next(iter(arrays.values()))) for arrays, _ in self.strata]
        orders = [rng.permutation(total) for total in totals]
        for step in range(self.steps):
            pieces = []
            for (arrays, count), total, order in zip(self.strata, totals, orders, strict=True):
                rows = order[(step * count + np.arange(count)) % total]
                weights = np.full(count, total / count)
                pieces.append(Piece({**self.shared, **{k: v[rows] for k, v in arrays.items()}}, weights))
            yield tuple(pieces)

    def whole(self) -> Iterator[Batch]:
        """Length by length."""
        for arrays, count in self.strata:
            total = len(next(iter(arrays.values())))
            for start in range(0, total, count):
                rows = np.arange(start, start + count)
                taken = {k: v[np.minimum(rows, total - 1)] for k, v in arrays.items()}
                yield (Piece({**self.shared, **taken}, (rows < total) * 1.0),)


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
