"""Where labels are moved: some rows of a model whose discrete latent numbers components, and its sweeps on them."""

import abc
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from jensen._base.errors import JensenError
from jensen._conjugate.algebra import ConjugateModel, Moments
from jensen._conjugate.algebra.components import components
from jensen._conjugate.algebra.plates import row_position
from jensen._conjugate.coordinate.ascent import Ascent, State, zeros
from jensen._conjugate.coordinate.plated import PlatedAscent
from jensen._conjugate.coordinate.starts import random_start

MANY = 5000
"""Responsibilities beyond which the hundreds of sweeps that moves make repay a better program."""
LEAST = 4
"""Entries for each component without which there is nothing to tell components by."""


class Board(abc.ABC):
    """Some rows, and the responsibilities q(c_n = k) of their discrete block, as an array (entries, values).

    `placed` takes any responsibilities and gives the globals that follow from them; they need not add up to one (a
    component that is given one row twice over counts it twice). Errors of an ascent (a factor that is improper where a
    component is left empty) count as a move that leads nowhere: `None`.
    """

    attempts: ClassVar[int] = 1
    """How often moves are looked for before there are said to be none."""

    def __init__(self, ascent: Any, name: str, shape: tuple[int, ...], scalars: float):
        self.ascent, self.name, self.shape, self.scalars = ascent, name, shape, scalars
        self.values, self.entries = shape[-1], int(np.prod(shape[:-1]))
        self.block = ascent.model.blocks[name]
        self.step = 3
        held = [ascent.model.blocks[n] for n in ascent.order]
        located = ["z" in block.shapes for block in held if not block.discrete]
        self.twice = located != sorted(located, reverse=True)

    def independent(self, probs: np.ndarray) -> Any:
        """The block's moments at these responsibilities."""
        assert self.block.independent is not None  # only such blocks have a board
        return self.block.independent(probs.reshape(self.shape))

    def afresh(self, rng: np.random.Generator) -> "Board":
        """A board of other rows, where there are others."""
        del rng
        return self

    def noise(self, bound: float) -> float:
        """Rounding of a bound, in nats."""
        return self.ascent.noise(bound)

    def placed(self, probs: np.ndarray, base: State) -> State | None:
        """The state whose globals follow from these responsibilities, other latents as in `base`.

        A scale that is updated before its location is wide of it: the globals then follow twice.
        """
        try:
            state = self._placed(probs, base)
            return self._placed(probs, state) if self.twice else state
        except JensenError:
            return None

    def swept(self, state: State, count: int) -> State | None:
        """More sweeps."""
        try:
            return self._swept(state, count)
        except JensenError:
            return None

    @abc.abstractmethod
    def _placed(self, probs: np.ndarray, base: State) -> State: ...

    @abc.abstractmethod
    def _swept(self, state: State, count: int) -> State: ...

    @abc.abstractmethod
    def random(self, rng: np.random.Generator) -> State:
        """Random moments for everything, of which nothing is known."""

    @abc.abstractmethod
    def potentials(self, state: State) -> np.ndarray:
        """log q(c_n = k) up to a constant of the entry, at the globals of a state: (entries, values)."""

    @abc.abstractmethod
    def inside(self, state: State) -> State:
        """A state of the whole as one of the board, whose bound on these rows is not known."""

    @abc.abstractmethod
    def outside(self, state: State) -> State | None:
        """A state of the board as one of the whole, after a sweep over all rows."""


class WholeBoard(Board):
    """All rows of an ascent that holds them."""

    def __init__(self, ascent: Ascent, name: str):
        super().__init__(ascent, name, ascent.model.blocks[name].shapes["indicator"], ascent.model.rows)
        self.step = min(self.step, ascent.stride)
        if self.entries * self.values > MANY:
            ascent.heavy = ascent.heavy or "middle"

    def _placed(self, probs: np.ndarray, base: State) -> State:
        return self.ascent.begin({**base.moments, self.name: self.independent(probs)})

    def _swept(self, state: State, count: int) -> State:
        """Plain sweeps from the moved labels on: any of them can be made again from there."""
        return replace(self.ascent.advance(state, count), base=state.base or replace(state, base=None))

    def random(self, rng: np.random.Generator) -> State:
        """Of every block."""
        model = self.ascent.model
        naturals, entropies = zeros(model, model.blocks)
        return State(random_start(model, rng, False), naturals, (), 0, entropies)

    def potentials(self, state: State) -> np.ndarray:
        """Natural parameters of the block; for the states of a chain, without what their neighbours say."""
        return np.asarray(state.naturals[self.name]["indicator"], float).reshape(self.entries, self.values)

    def inside(self, state: State) -> State:
        """The state itself."""
        return state

    def outside(self, state: State) -> State | None:
        """The state itself."""
        return state


class SubsetBoard(Board):
    """Some rows of a plate that is streamed; they stand for all of them, and so do the bounds of its states."""

    attempts: ClassVar[int] = 2

    def __init__(self, ascent: PlatedAscent, name: str, rng: np.random.Generator):
        rows = np.sort(rng.choice(ascent.parts.size, ascent.sweeps.subset, replace=False))
        self.rows, self.count = rows, len(rows)
        shape = ascent.model.blocks[name].shapes["indicator"]
        super().__init__(ascent, name, (self.count, *shape[1:]), ascent.model.rows)
        self.subset = ascent.chosen(ascent.arrays, rows)
        size = dict.fromkeys(ascent.parts.local, self.count)
        self.start = random_start(ascent.model, rng, False, size, ascent.parts.local)

    def afresh(self, rng: np.random.Generator) -> "SubsetBoard":
        """A board of as many other rows."""
        return SubsetBoard(self.ascent, self.name, rng)

    def _carried(self, state: State) -> Moments:
        return {name: state.moments[name] for name in self.ascent.parts.carried}

    def _placed(self, probs: np.ndarray, base: State) -> State:
        ascent = self.ascent
        shared = {name: base.moments[name] for name in ascent.order}
        local = {**self.start, **self._carried(base), self.name: self.independent(probs)}
        statistics, entropy = ascent.sweeps.begin({**shared, **local}, self.subset)
        return ascent.moved(shared, (statistics, entropy, self._carried(base)), self.count)

    def _swept(self, state: State, count: int) -> State:
        for _ in range(count):
            new, (_, after), _, inside = self.ascent.swept(state, self.subset, self.count)
            self.ascent.check_inside(np.asarray(inside), new.naturals)
            history = (*state.history, self.ascent.finite(float(after)))
            state = replace(new, history=history, sweeps=state.sweeps + 1)
        return state

    def random(self, rng: np.random.Generator) -> State:
        """Of the globals; what is carried starts cold."""
        ascent = self.ascent
        naturals, entropies = zeros(ascent.model, ascent.order)
        moments = random_start(ascent.model, rng, False, only=ascent.order)
        return State({**moments, **ascent.sweeps.cold(self.count)}, naturals, (), 0, entropies)

    def potentials(self, state: State) -> np.ndarray:
        """Those of the local update."""
        shared = {name: state.moments[name] for name in self.ascent.order}
        found = self.ascent.sweeps.local_of_subset(shared, self._carried(state), self.subset)[self.name]["indicator"]
        return np.asarray(found, float).reshape(self.entries, self.values)

    def inside(self, state: State) -> State:
        """The globals of a state of the whole; their bound on these rows is not known."""
        moments = dict(state.moments)
        for name in self.ascent.parts.carried:
            taken: Any = {k: np.take(np.asarray(v), self.rows, axis=0) for k, v in state.moments[name].items()}
            moments[name] = taken
        return replace(state, moments=moments, history=(), base=None, origin=None)

    def outside(self, state: State) -> State | None:
        """The state after a sweep over all rows."""
        shared = {name: state.moments[name] for name in self.ascent.order}
        try:
            return self.ascent.begin(shared)
        except JensenError:
            return None


def movable(model: ConjugateModel, times: float = 1.0) -> tuple[str, ...]:
    """The discrete blocks that number components and have rows enough (`times` those of the model); none where a
    parameter is learned.

    The likelihood of a learned scale has no maximum (a component on one row): there the climb stays where it is.
    """
    if any(block.point for block in model.blocks.values()):
        return ()
    found = []
    for name, block in model.blocks.items():
        if block.independent is None or len(block.sites) > 1:
            continue
        *entries, values = block.shapes["indicator"]
        if values >= 2 and np.prod(entries) * times >= LEAST * values and components(model, name):
            found.append(name)
    return tuple(found)


def boards(ascent: Ascent, rng: np.random.Generator) -> tuple[Board, ...]:
    """A board for every block whose labels can be moved.

    None where rows are streamed and some of them say too little of the globals (the words of topics).
    """
    names = movable(ascent.model)
    if not isinstance(ascent, PlatedAscent):
        return tuple(WholeBoard(ascent, name) for name in names)
    parts, found = ascent.parts, []
    for name in names if ascent.sweeps.telling else ():
        if name in parts.local and row_position(ascent.model, ascent.model.blocks[name], parts.plate) == 0:
            found.append(SubsetBoard(ascent, name, rng))
    return tuple(found)
