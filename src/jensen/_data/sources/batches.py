"""Rows from an iterable of batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from jensen._base.arguments import whole_number
from jensen._base.errors import DataError
from jensen._data.columns import as_mapping, columns_of
from jensen._data.sources.contract import AbstractSource, Batch, Piece

Given: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A batch as a user gives it: the model's arguments, or a list of them where rows come in several shapes."""


class Batches(AbstractSource):
    """Rows from an iterable of batches, such as a reader of files; nothing but one batch is held in memory.

    Stands in the place of the data: `jn.fit(model, jn.Batches(...), "svi")`. The model is the one for all rows; its
    plate takes its size from the data (`numpyro.plate("row", len(x))`), as a batch has B of the N rows. Every array of
    a batch whose first axis has B entries holds rows; everything else in it, and `shared`, is the same for all rows.

    Attributes:
        batches: a function without arguments that returns a fresh iterable at every pass, or a collection that can be
            passed over again. A one-shot iterator works too: then the fit ends with it, cannot know that it has
            converged, and is not trusted. A batch maps the model's arguments to arrays; a list of such mappings is one
            batch whose rows come in several shapes. The rows should come in random order: the steps take each batch
            for a sample of all of them.
        size: N, rows in all; counted in a first pass if not given, and compared with every later one.
        shared: arguments that are the same for every batch.

    Errors: `DataError` for what is no batch, for a batch that the model cannot take (named by its number), for a pass
    that ends early, and for an iterator of unknown size.

    Example:
        >>> import jensen as jn, numpy as np, numpyro, numpyro.distributions as dist
        >>> def coins(y):
        ...     with numpyro.plate("kind", 2):
        ...         p = numpyro.sample("p", dist.Beta(1, 1))
        ...     with numpyro.plate("row", len(y)):
        ...         k = numpyro.sample("k", dist.Categorical(np.ones(2) / 2))
        ...         numpyro.sample("y", dist.Binomial(10, p[k]), obs=y)
        >>> y = np.random.default_rng(0).permutation(np.repeat([1, 9], 50))
        >>> source = jn.Batches(lambda: ({"y": y[i : i + 20]} for i in range(0, 100, 20)), size=100)
        >>> fit = jn.fit(coins, source, "svi")
        >>> sorted(np.round(fit.q.means()["p"], 1).tolist())
        [0.1, 0.9]
    """

    batches: Callable[[], Iterable[Given]] | Iterable[Given]
    size: int | None
    repeatable: bool
    shared: dict[str, Any]

    def __init__(
        self,
        batches: Callable[[], Iterable[Given]] | Iterable[Given],
        *,
        size: int | None = None,
        shared: Mapping[str, Any] | None = None,
    ):
        if isinstance(batches, Mapping) or not (callable(batches) or isinstance(batches, Iterable)):
            raise DataError(
                f"`batches` is a {type(batches).__name__}, not an iterable of batches.",
                "Argument: batches.",
                "Pass a function that returns an iterable of batches, or a list of them.",
            )
        if size is not None:
            size = whole_number(size, "size", remedy="Give the number of rows in all, or leave it out.")
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
            yield tuple(replace(piece, weights=1.0) for piece in batch)

    def _pass(self) -> Iterator[Batch]:
        first = 0
        if self.repeatable:
            found = iter(self.batches() if callable(self.batches) else self.batches)
        else:
            first = 0 if self._ahead is None else 1
            found = self._ahead = self._ahead or iter(self.batches)  # type: ignore[arg-type]
        for number, given in enumerate(found, first):
            pieces: Any = [given] if isinstance(given, Mapping) or columns_of(given) is not None else given
            if isinstance(pieces, Sequence):
                pieces = [piece if columns_of(piece) is None else as_mapping(piece) for piece in pieces]
            if not isinstance(pieces, Sequence) or not pieces or not all(isinstance(p, Mapping) for p in pieces):
                raise DataError(
                    f"Batch {number} is a {type(given).__name__}, not a mapping of the model's arguments to arrays.",
                    f"Batch {number}.",
                    "Yield dicts such as {'x': rows}, or lists of them.",
                )
            yield tuple(self._piece(number, i if len(pieces) > 1 else None, p) for i, p in enumerate(pieces))

    def _piece(self, number: int, part: int | None, arguments: Mapping[str, Any]) -> Piece:
        where = f"batch {number}" if part is None else f"part {part} of batch {number}"
        shared = frozenset(self.shared) - frozenset(arguments)
        return Piece({**self.shared, **arguments}, None, shared, lambda row: f"row {row} of {where}", name=where)
