"""Where coordinate ascent begins: several starts, the best of them improved by moves of the labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jensen._conjugate.coordinate.ascent import Ascent, State
from jensen._conjugate.coordinate.board import MANY, Board, SubsetBoard
from jensen._conjugate.coordinate.search import LITTLE, Tally, ripened, searched, settled
from jensen._conjugate.coordinate.seeding import Seeds

PATIENCE = 1
"""Rounds without a move that end the search from a start; there is another where the climb ends."""
IMPROVED = ((MANY, 4), (100_000, 2), (np.inf, 1))
"""Responsibilities up to which so many starts, the best ones, are improved by moves."""


def started(
    ascent: Ascent, boards: Sequence[Board], rng: np.random.Generator, count: int, sweeps: int
) -> tuple[list[State], Tally]:
    """(`count` starts after some sweeps, best first; the moves that were made from the best).

    Where rows are streamed all of this is done on some of them, and the best start then makes one sweep over all.
    """
    states = tried(boards[0], rng, count, sweeps)
    if not states:
        return ascent.starts(rng, count, sweeps), Tally()
    ends, met, tally = [], [], Tally()
    size = boards[0].entries * boards[0].values
    for state in states[: next(number for most, number in IMPROVED if size <= most)]:
        state, same = settled(boards[0], state), LITTLE * boards[0].scalars
        if any(abs(state.elbo - known.elbo) < same for known in met):
            continue  # the same optimum, from which moves have been tried
        met.append(state)
        for one in boards:
            state, moves = searched(one, settled(one, state), rng, PATIENCE, single=False)
            tally += moves
        ends.append(state)
        met.append(state)
    best = max(ends, key=lambda state: state.elbo)
    if isinstance(boards[0], SubsetBoard):
        whole = boards[0].outside(best)
        return [whole or ascent.starts(rng, 1, sweeps)[0], *(replace(s, sweeps=0) for s in states[1:])], tally
    return [best, *states[1:]], tally


def tried(board: Board, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
    """Starts after some sweeps, best first: every second one from seeds, the others random."""
    base, seeds, states = board.random(rng), None, []
    for i in range(count):
        probs = None
        if i % 2 == 0:
            seeds = seeds or Seeds(board, base, rng)
            probs = seeds.drawn(rng)
        if probs is None:
            base, probs = board.random(rng), rng.dirichlet(np.ones(board.values), board.entries)
        state = board.placed(probs, base)
        state = None if state is None else ripened(board, state, max(1, sweeps))
        if state is not None:
            states.append(state)
    return sorted(states, key=lambda state: -state.elbo)
