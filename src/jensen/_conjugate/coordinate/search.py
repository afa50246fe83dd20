"""Moves of the labels between optima: merge, dissolve and split, kept only where the bound has risen.

As in memoised variational inference (Hughes and Sudderth 2013) a component that is cheap to lose makes room for half of
one that is dear to keep whole (Ueda, Nakano, Ghahramani and Hinton 2000); what a move gains is first estimated for all
components together, then sweeps from the moved responsibilities decide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jensen._conjugate.coordinate.ascent import State
from jensen._conjugate.coordinate.board import Board
from jensen._conjugate.coordinate.proposals import Halves, Removal, redivided, removals, shares, splits

TRIES = 3
"""Single moves that are tried in a round, the most promising first."""
ROUNDS = 30
RELABELLED, SMALL = 32, 2000
"""Single entries that are relabelled in a round, where there are no more responsibilities than that."""
LITTLE = 1e-4
"""Nats per observed scalar still to come at which a state has settled, as far as moves are concerned."""
LONGEST = 60
"""Sweeps at most before a move must have paid."""


@dataclass
class Tally:
    """Moves tried and moves kept."""

    tried: int = 0
    kept: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.tried + other.tried, self.kept + other.kept)

    @property
    def words(self) -> str:
        """A sentence on them; empty where there were none."""
        if not self.tried:
            return ""
        kept = "none raised the bound" if not self.kept else f"{self.kept} raised the bound and {_were(self.kept)} kept"
        return f" {self.tried} moves of components (merge, dissolve, split) were tried; {kept}."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def searched(
    board: Board, state: State, rng: np.random.Generator, patience: int = 1, single: bool = True
) -> tuple[State, Tally]:
    """The state after rounds of moves, until `patience` in a row have brought none that raises the bound.

    `single` entries are relabelled too, which is many small moves: worth their time from the best place only.
    """
    tally, idle = Tally(), 0
    for _ in range(ROUNDS):
        moved = None
        for probs in proposals(board, state, rng, single):
            tally.tried += 1
            moved = reached(board, board.placed(probs, state), state)
            if moved is not None:
                break
        if moved is None:
            idle += 1
            if idle >= patience:
                break
            continue
        tally.kept += 1
        idle, state = 0, settled(board, moved)
    return state, tally


def higher_from(boards: Sequence[Board], state: State, rng: np.random.Generator) -> tuple[State | None, Tally]:
    """(a state of higher bound that a move of some labels led to, `None` where none did; the account)."""
    tally = Tally()
    for board in (one for one in boards for _ in range(one.attempts)):
        higher, moves = elsewhere_from(board.afresh(rng), state, rng)
        tally += moves
        if higher is not None:
            return higher, tally
    return None, tally


def elsewhere_from(board: Board, state: State, rng: np.random.Generator) -> tuple[State | None, Tally]:
    """(a state of higher bound that a move led to, with the history of this one; the account)."""
    found, tally = elsewhere_on(board, state, rng)
    higher = None if found is None else above(board, board.outside(found), state)
    if higher is None:
        tally.kept = 0
    return higher, tally


def elsewhere_on(board: Board, state: State, rng: np.random.Generator) -> tuple[State | None, Tally]:
    """(a state of the board that a move from a state of the whole led to, `None` where none raises its bound)."""
    found, tally = searched(board, settled(board, board.inside(state)), rng)
    return (found if tally.kept else None), tally


def above(board: Board, start: State | None, before: State) -> State | None:
    """What follows `before` once sweeps over all rows from `start` have risen above it; `None` where they do not."""
    found = start
    margin = max(100.0 * board.noise(before.elbo), 1e-6 * board.scalars)
    while found is not None and found.elbo <= before.elbo + margin:
        if found.sweeps >= LONGEST or found.elbo + 2.0 * to_come(found) < before.elbo + margin:
            return None
        found = board.ascent.advance(found, board.ascent.stride)
    if found is None:
        return None
    made = found.sweeps - (found.base.sweeps if found.base else found.sweeps - 1)
    return replace(before.onward(found, made), extra=before.extra + found.sweeps)


def settled(board: Board, state: State, most: int = LONGEST) -> State:
    """Sweeps until one gains little: enough to tell what moves are worth."""
    for _ in range(0, most, board.step):
        new = board.swept(state, board.step)
        if new is None:
            return state
        state = new
        if to_come(state) < LITTLE * board.scalars:
            break
    return state


def ripened(board: Board, state: State, most: int) -> State | None:
    """Sweeps from a start until one gains little, at most so many; `None` where they lead nowhere."""
    found: State | None = state
    for done in range(0, most, board.step):
        found = board.swept(state, min(board.step, most - done))
        if found is None or to_come(found) < LITTLE * board.scalars:
            break
        state = found
    return found


def to_come(state: State) -> float:
    """What the sweeps that follow may gain, by the ratio of the last two gains (nats)."""
    if len(state.history) < 3:
        return np.inf
    last, before = state.history[-1] - state.history[-2], state.history[-2] - state.history[-3]
    if last <= 0.0:
        return 0.0
    ratio = min(last / before, 0.98) if before > 0 else 0.98
    return last / (1.0 - ratio)


def reached(board: Board, start: State | None, before: State) -> State | None:
    """Sweeps from a moved state until its bound is above the one before; `None` where it stays below.

    What sweeps without the move would still have gained does not count: it may have fallen back to where it was.
    """
    left = to_come(before)
    own = 2.0 * left if np.isfinite(left) else LITTLE * board.scalars
    bound, margin = before.elbo, max(100.0 * board.noise(before.elbo), 1e-6 * board.scalars, own)
    state = start
    for _ in range(0, LONGEST, board.step):
        state = None if state is None else board.swept(state, board.step)
        if state is None or state.elbo > bound + margin:
            return state
        if state.elbo + 2.0 * to_come(state) < bound + margin:
            return None
    return None


def proposals(board: Board, state: State, rng: np.random.Generator, single: bool = True) -> Iterator[np.ndarray]:
    """Responsibilities to try, the most promising first; what is tried last is worked out last."""
    potentials = board.potentials(state)
    probs = shares(potentials)
    out, apart = removals(board, state, potentials), splits(board, state, potentials, rng)
    swaps = _swaps(out, apart)
    for some in _some(swaps):
        yield _swapped(potentials, probs, some)
    if out[0].cost < _worth(board):
        yield _swapped(potentials, probs, [(out[0], None)])
    for some in _some(redivided(board, state, potentials, rng)):
        yield _divided(probs, some)
    if single:
        yield from _relabelled(board, probs, rng)


def _some(moves: list[Any]) -> Iterator[list[Any]]:
    """All of the moves, the better half of them, and the best ones alone."""
    for count in dict.fromkeys((len(moves), len(moves) // 2)):
        if count > 1:
            yield moves[:count]
    yield from ([move] for move in moves[:TRIES])


def _worth(board: Board) -> float:
    """What a component of its own costs in nats, at most: half the log of the rows for each of its parameters."""
    blocks = board.ascent.model.blocks
    own = sum(int(np.prod(s)) for n in board.ascent.order if not blocks[n].discrete for s in blocks[n].shapes.values())
    return 0.5 * own / board.values * np.log(board.entries)


def _swaps(out: list[Removal], apart: list[Halves]) -> list[tuple[Removal, Halves | None]]:
    """Removals and splits of different components that together gain, the best first."""
    moves: list[tuple[Removal, Halves | None]] = []
    used: set[int] = set()
    for split in apart:
        if split.group in used:
            continue
        for removal in out:
            if removal.cost >= split.gain:
                break
            touched = {removal.gone} if removal.into is None else {removal.gone, removal.into}
            if not touched & (used | {split.group}):
                used |= touched | {split.group}
                moves.append((removal, split))
                break
    return moves


def _swapped(potentials: np.ndarray, probs: np.ndarray, moves: list[tuple[Removal, Halves | None]]) -> np.ndarray:
    """The responsibilities after removals and splits of different components."""
    closed = [removal.gone for removal, _ in moves if removal.into is None]
    if closed:
        potentials = potentials.copy()
        potentials[:, closed] = -np.inf
        probs = shares(potentials)
    probs = probs.copy()
    for removal, _ in moves:
        if removal.into is not None:
            probs[:, removal.into] += probs[:, removal.gone]
            probs[:, removal.gone] = 0.0
    for removal, split in moves:
        if split is not None:
            probs[:, removal.gone] = probs[:, split.group] * (1.0 - split.first)
            probs[:, split.group] *= split.first
    return probs


def _divided(probs: np.ndarray, moves: list[tuple[tuple[int, int], Halves]]) -> np.ndarray:
    """The responsibilities after pairs of components have shared out their rows anew."""
    probs = probs.copy()
    for (a, b), halves in moves:
        both = probs[:, a] + probs[:, b]
        probs[:, a], probs[:, b] = both * halves.first, both * (1.0 - halves.first)
    return probs


def _relabelled(board: Board, probs: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Single entries given to another component: what sparse priors, which make rows hold on to each other, need.

    Few of them, and only where a sweep costs little.
    """
    if board.entries * board.values > SMALL:
        return
    for row in rng.permutation(board.entries)[:RELABELLED]:
        others = np.delete(np.arange(board.values), int(np.argmax(probs[row])))
        new = probs.copy()
        new[row] = np.arange(board.values) == rng.choice(others)
        yield new
