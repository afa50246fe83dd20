"""What a source of minibatches promises: pieces of rows that each stand for all rows, or each row exactly once."""

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np


def _row(index: int) -> str:
    return f"row {index}"


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of one shape.

    Attributes:
        arguments: the model's arguments. weights: how often each row counts (`None`: as N / B).
        shared: names of the arguments that do not hold rows.
        place: row of the piece -> what the user calls it, for messages.
        padded: names of the arrays whose second axis is filled up with zeros.
        name: of the batch, where it has one.
    """

    arguments: Mapping[str, Any]
    weights: np.ndarray | float | None = None
    shared: frozenset[str] = frozenset()
    place: Callable[[int], str] = _row
    padded: frozenset[str] = frozenset()
    name: str = ""


Batch: TypeAlias = tuple[Piece, ...]


class AbstractSource(abc.ABC):
    """Rows of a plate, in batches.

    Attributes:
        size: rows in all; `None` while they have not been counted.
        repeatable: whether the rows can be passed over again.
        checked: whether the values of all rows have been checked against the model already.
    """

    size: int | None
    repeatable: bool = True
    checked: bool = False

    def wider(self, rows: int) -> "AbstractSource":
        """The same rows in batches of about so many where they can be cut at will, otherwise as they come."""
        del rows
        return self

    @abc.abstractmethod
    def example(self) -> Piece:
        """A piece of the shape that batches have."""

    @abc.abstractmethod
    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches in random order, each standing for all rows; together about one pass."""

    @abc.abstractmethod
    def whole(self) -> Iterator[Batch]:
        """Every row exactly once: weights 1, and 0 where a row only fills up a batch."""
