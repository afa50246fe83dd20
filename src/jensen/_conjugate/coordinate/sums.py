"""What some rows say to the globals, and how pieces of rows are named."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import DataError, ModelError, ParameterSites
from jensen._conjugate.algebra import ConjugateTarget, Moments
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._data.sources import Piece
from jensen._program.structure import plate_axis


@dataclass(frozen=True)
class Sums:
    """What some rows say: for each shape its statistics and the share of its rows, and the rows' bound (nats).

    `count` is the sum of their weights.
    """

    parts: dict[Any, tuple[Any, Any]]
    bound: Any
    count: float = 0.0

    def scaled(self, factor: float) -> "Sums":
        """Every row counted `factor` times."""
        parts = {key: jax.tree.map(lambda a: factor * a, part) for key, part in self.parts.items()}
        return Sums(parts, factor * self.bound, factor * self.count)

    def at(self, moments: Moments, arrays: Mapping[Any, Any]) -> "Sums":
        """The same statistics at other globals, for rows without latents: their bound is ⟨S, G⟩."""
        bound = sum(shape.linear(part[0], moments, arrays[shape]) for shape, part in self.parts.items())
        return Sums(self.parts, bound, self.count)

    def __add__(self, other: "Sums") -> "Sums":
        merged = dict(self.parts)
        for key, part in other.parts.items():
            merged[key] = jax.tree.map(jnp.add, merged[key], part) if key in merged else part
        return Sums(merged, self.bound + other.bound, self.count + other.count)


def check_fixed(target: ConjugateTarget) -> None:
    """Raise where an array would have to be known for the analysis: it differs by batch."""
    for name, value in target.program.fixed.items():
        if isinstance(value, np.ndarray):
            raise ModelError(
                f"The model needs the values of '{name}' before it can be analysed, and they differ by batch.",
                f"Data key: '{name}'.",
                "Pass sizes and other numbers that shape the model as plain integers, the same for every batch.",
            )


@contextmanager
def named(piece: Piece) -> Iterator[None]:
    """Errors inside say which batch they come from."""
    try:
        yield
    except ParameterSites:  # the same in every batch
        raise
    except (DataError, ModelError) as error:
        if not piece.name or piece.name in error.where:
            raise
        raise type(error)(error.what, f"{error.where} In {piece.name}.".strip(), error.remedy) from error


def place_of(piece: Piece) -> Callable[[str, int], str]:
    """(data key, row of the piece) -> what the user calls it."""
    return lambda name, row: f"row {row}" if name in piece.shared else piece.place(row)


def position_of(piece: Piece, plate: str) -> Callable[[SiteInfo, tuple[int, ...]], str]:
    """Where in the data an entry of an observed site is."""

    def words(site: SiteInfo, index: tuple[int, ...]) -> str:
        axis = plate_axis(site, plate)
        if axis is None:
            return f"row {', '.join(map(str, index))}"
        rest = (*index[:axis], *index[axis + 1 :])
        return piece.place(index[axis]) + (f", entry {', '.join(map(str, rest))}" if rest else "")

    return words


def kind_of(value: Any) -> tuple[Any, ...]:
    """What the analysis of a model depends on: shape and type of arrays, the value of everything else."""
    if isinstance(value, Mapping):
        return tuple((k, *kind_of(v)) for k, v in sorted(value.items()))
    return (value.shape, value.dtype.str) if isinstance(value, np.ndarray) else (repr(value),)
