"""Labels moved about on some batches, whose statistics stand for those of all rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jensen._conjugate.algebra import Moments, Naturals
from jensen._conjugate.coordinate.ascent import State
from jensen._conjugate.coordinate.board import Board, movable
from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._conjugate.coordinate.shape import Shape
from jensen._conjugate.coordinate.starts import random_start
from jensen._conjugate.coordinate.sums import Sums
from jensen._data.sources import Batch


class BatchBoard(Board):
    """The rows of some batches. Their bounds are those before the last sweep, which has raised them since."""

    def __init__(
        self,
        batches: Minibatches,
        name: str,
        subset: Sequence[Batch],
        size: int,
        loose: float,
        rng: np.random.Generator,
    ):
        self.subset, self.size, self.loose, self.rng = subset, size, loose, rng
        self.shapes = [batches.program(piece) for batch in subset for piece in batch]
        parts = [shape.model.blocks[name].shapes["indicator"] for shape in self.shapes]
        self.ends = np.cumsum([int(np.prod(shape[:-1])) for shape in parts])
        super().__init__(batches, name, (int(self.ends[-1]), parts[0][-1]), batches.scalars)

    def noise(self, bound: float) -> float:
        """Rounding of a bound, in nats."""
        return self.ascent.noise(bound, self.scalars)

    def _placed(self, probs: np.ndarray, base: State) -> State:
        pieces = iter(zip(self.shapes, np.split(probs, self.ends[:-1]), strict=True))

        def local(shape: Shape) -> Moments:
            shape, own = next(pieces)
            block = shape.model.blocks[self.name]
            assert block.independent is not None  # only such blocks have a board
            found: Any = {self.name: block.independent(own.reshape(block.shapes["indicator"]))}
            others = [name for name in shape.parts.local if name != self.name]
            return {**base.moments, **random_start(shape.model, self.rng, False, only=others), **found}

        sums = [self.ascent.begun(local, batch, self.size) for batch in self.subset]
        state, _ = self._updated(base.moments, self.zeros(), sums)
        return state

    def zeros(self) -> Naturals:
        """Naturals of factors that are not known."""
        return {name: self.ascent.model.blocks[name].zeros() for name in self.ascent.order}

    def _updated(self, moments: Moments, naturals: Naturals, sums: list[Sums]) -> tuple[State, float]:
        total = sum(sums[1:], sums[0]).scaled(1.0 / len(sums))
        moments, naturals, before, _, inside = self.ascent.update(moments, naturals, total, 1.0)
        self.ascent.check_inside(np.asarray(inside), naturals)
        return State(moments, naturals, (), 0), float(before)

    def _swept(self, state: State, count: int) -> State:
        for _ in range(count):
            sums = [self.ascent.gather(state.moments, batch, self.size, self.loose) for batch in self.subset]
            new, before = self._updated(state.moments, state.naturals, sums)
            history = (*state.history, self.ascent.finite(before))
            state = replace(new, history=history, sweeps=state.sweeps + 1)
        return state

    def random(self, rng: np.random.Generator) -> State:
        """Of the globals."""
        return State(random_start(self.ascent.model, rng, False, only=self.ascent.order), self.zeros(), (), 0)

    def potentials(self, state: State) -> np.ndarray:
        """Those of the local step."""
        found = [
            np.asarray(naturals[self.name]["indicator"], float).reshape(-1, self.values)
            for batch in self.subset
            for naturals in self.ascent.local_naturals(state.moments, batch, self.loose)
        ]
        return np.concatenate(found)

    def inside(self, state: State) -> State:
        """The globals alone."""
        return replace(state, history=(), sweeps=0, base=None, origin=None)

    def outside(self, state: State) -> State | None:
        """The globals alone: a pass over all rows is left to the steps that follow."""
        return state


def batch_board(
    batches: Minibatches, subset: Sequence[Batch], size: int, loose: float, rng: np.random.Generator
) -> BatchBoard | None:
    """A board of the first block of the rows whose labels can be moved, if there is one."""
    shape = batches.program(subset[0][0])
    rows = sum(batches.rows_of(piece) for batch in subset for piece in batch) / shape.rows
    for name in movable(shape.model, rows):
        if name in shape.parts.local:
            return BatchBoard(batches, name, subset, size, loose, rng)
    return None
