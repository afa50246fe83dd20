"""Where coordinate ascent begins: several starts, the best of them improved by moves of the labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jensen.algorithms.coordinate.ascent import Ascent, State, zeros
from jensen.algorithms.coordinate.board import Board, SubsetBoard
from jensen.algorithms.coordinate.plated import PlatedAscent
from jensen.algorithms.coordinate.search import Tally, searched, settled
from jensen.algorithms.coordinate.seeding import Seeds
from jensen.algorithms.coordinate.starts import random_start


def started(
    ascent: Ascent, boards: Sequence[Board], rng: np.random.Generator, count: int, sweeps: int
) -> tuple[list[State], Tally]:
    """(`count` starts after some sweeps, best first; the moves that were made from the best).

    Every second start is by seeds, the others are random. Where rows are streamed all of this is done on some of them,
    and the best start then makes one sweep over all.
    """
    board = boards[0]
    base = _base(ascent, board, rng)
    seeds, states = None, []
    for i in range(count):
        probs = None
        if i % 2 == 0:
            seeds = seeds or Seeds(board, base, rng)
            probs = seeds.drawn(rng)
        if probs is None:
            probs = rng.dirichlet(np.ones(board.values), board.entries)
        state = board.placed(probs, _base(ascent, board, rng) if i % 2 else base)
        state = None if state is None else board.swept(state, max(1, sweeps))
        if state is not None:
            states.append(state)
    if not states:
        return ascent.starts(rng, count, sweeps), Tally()
    states.sort(key=lambda state: -state.elbo)
    best, tally = states[0], Tally()
    for one in boards:
        best, moves = searched(one, settled(one, best), rng)
        tally += moves
    if isinstance(board, SubsetBoard):
        whole = board.outside(best)
        return [whole or ascent.starts(rng, 1, sweeps)[0], *(replace(s, sweeps=0) for s in states[1:])], tally
    return [best, *states[1:]], tally


def _base(ascent: Ascent, board: Board, rng: np.random.Generator) -> State:
    """Random moments for everything."""
    model = ascent.model
    if not isinstance(ascent, PlatedAscent):
        naturals, entropies = zeros(model, model.blocks)
        return State(random_start(model, rng, False), naturals, (), 0, entropies)
    naturals, entropies = zeros(model, ascent.order)
    moments = random_start(model, rng, False, only=ascent.order)
    assert isinstance(board, SubsetBoard)  # as it is made from the ascent
    return State({**moments, **ascent.sweeps.cold(board.count)}, naturals, (), 0, entropies)
