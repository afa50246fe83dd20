"""Starts of the steps on batches, and pushes from where they end, tried on some rows."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from jensen._conjugate.algebra import Moments, Naturals
from jensen._conjugate.coordinate.ascent import State
from jensen._conjugate.coordinate.batch_board import batch_board
from jensen._conjugate.coordinate.beginnings import tried
from jensen._conjugate.coordinate.board import movable
from jensen._conjugate.coordinate.global_step import push_program
from jensen._conjugate.coordinate.minibatch import Minibatches, Sums
from jensen._conjugate.coordinate.search import elsewhere_on, searched, settled
from jensen._conjugate.coordinate.shape import Shape
from jensen._conjugate.coordinate.starts import given_start, perturbed, random_start
from jensen._data.sources import AbstractSource, Batch

SUBSET = 4096
"""Rows at most on which starts are tried."""
ENTRIES = 30_000
"""Observed scalars at most on which starts are tried, if a batch does not hold more."""
BUDGET = 2_000_000
"""Observed scalars that all starts together may look at, or a sixteenth of a pass."""
SWEEPS = 30
TRIES, STARTS = 6, 4
EVEN = 0.1
LOOSE = 3000.0
"""Local blocks are iterated to so many times the tolerance of exact sweeps: the noise of a batch is larger still."""
PUSHED_SWEEPS = 20


def begun(
    batches: Minibatches, source: AbstractSource, rng: np.random.Generator, size: int, moves: bool = True
) -> tuple[Moments, Naturals]:
    """The best of some random starts after sweeps over some batches; one for models without discrete latents.

    Where these batches hold fewer observed scalars than the globals have parameters (the words of topics), sweeps would
    settle on what is peculiar to them, and steps on later batches do not undo it: then nearly even responsibilities.
    """
    subset = _subset(batches, source, rng)
    entries = sum(batches.entries_of(batch) for batch in subset)
    total = batches.scalars
    affordable = max(total / 16, BUDGET) / entries
    several = any(block.discrete for block in batches.model.blocks.values())
    if several and batches.parameters > entries:
        return _start(batches, subset, rng, size, False, EVEN)
    wide = _wide(batches, source) if several and moves else source
    rows = subset if wide is source else _subset(batches, wide, rng)
    board = batch_board(batches, rows, size, LOOSE, rng) if several and moves else None
    states = tried(board, rng, STARTS, SWEEPS // 2) if board is not None else []
    if board is not None and states:
        found, _ = searched(board, settled(board, states[0]), rng, 2)
        return found.moments, found.naturals
    tries = int(np.clip(affordable / 15, 1, TRIES)) if several else 1
    sweeps = int(np.clip(affordable / tries, 3, SWEEPS))
    best: Any = None
    for number in range(tries):
        state, elbo = _start(batches, subset, rng, size, number % 2 == 1), -np.inf
        for _ in range(sweeps):  # a few would not do: they say next to nothing about where a start ends
            sums = _over(batches, state[0], subset, size)
            new, naturals, bound, _, inside = batches.update(*state, sums, 1.0)
            batches.check_inside(np.asarray(inside), naturals)
            if not float(bound) > elbo + 1e-6 * total:
                break
            elbo, state = float(bound), (new, naturals)
        if best is None or elbo > best[0]:
            best = (elbo, *state)
    return best[1], best[2]


def placed(
    batches: Minibatches, source: AbstractSource, rng: np.random.Generator, size: int, init: Mapping[str, Any]
) -> tuple[Moments, Naturals]:
    """One sweep over some batches from these values of some global latents."""
    first = given_start(batches.model, rng, init)
    moments = {name: first[name] for name in batches.order}
    naturals = {name: batches.model.blocks[name].zeros() for name in batches.order}
    sums = _over(batches, moments, _subset(batches, source, rng), size)
    moments, naturals, _, _, inside = batches.update(moments, naturals, sums, 1.0)
    batches.check_inside(np.asarray(inside), naturals)
    return moments, naturals


def _wide(batches: Minibatches, source: AbstractSource) -> AbstractSource:
    """The source in fewer and larger batches, for moves of the labels on them: every pass costs by the batch."""
    shape = batches.rest
    if not source.repeatable or not movable(shape.model, (batches.size or shape.rows) / shape.rows):
        return source
    return source.wider(int(np.clip(shape.rows * ENTRIES // shape.model.rows, 1, SUBSET)))


def _subset(batches: Minibatches, source: AbstractSource, rng: np.random.Generator) -> list[Batch]:
    if not source.repeatable:
        return [(source.example(),)]
    found: list[Batch] = []
    rows = entries = 0
    for batch in islice(source.epoch(rng), 64):
        found.append(batch)
        rows += sum(batches.rows_of(piece) for piece in batch)
        entries += batches.entries_of(batch)
        if rows >= SUBSET or entries >= ENTRIES:
            break
    return found


def _over(batches: Minibatches, moments: Moments, subset: list[Batch], size: int) -> Sums:
    total = None
    for batch in subset:
        sums = batches.gather(moments, batch, size, LOOSE)
        total = sums if total is None else total + sums
    assert total is not None
    return total.scaled(1.0 / len(subset))


def _start(
    batches: Minibatches,
    subset: list[Batch],
    rng: np.random.Generator,
    size: int,
    seeds: bool,
    spread: float = 1.0,
) -> tuple[Moments, Naturals]:
    """Global moments from random local ones: on one batch from a few seeds, or on all from random responsibilities.

    `spread` multiplies the distance of the responsibilities from even ones.
    """
    shared = random_start(batches.model, rng, False, only=batches.order)
    naturals = {name: batches.model.blocks[name].zeros() for name in batches.order}
    subset = subset[:1] if seeds else subset

    def local(program: Shape) -> Moments:
        local = program.parts.local
        found = random_start(program.model, rng, seeds, only=local)
        for name in local:
            block = program.model.blocks[name]
            if block.potentials and spread != 1.0:
                even = 1.0 / found[name]["indicator"].shape[-1]
                found[name]["indicator"] = even + spread * (found[name]["indicator"] - even)
        return {**found, **shared}

    total = None
    for batch in subset:
        sums = batches.begun(local, batch, size)
        total = sums if total is None else total + sums
    assert total is not None
    moments, naturals, _, _, inside = batches.update(shared, naturals, total.scaled(1.0 / len(subset)), 1.0)
    batches.check_inside(np.asarray(inside), naturals)
    return moments, naturals


def moved(
    batches: Minibatches, source: AbstractSource, found: Any, rng: np.random.Generator, size: int
) -> tuple[Moments, Naturals] | None:
    """A state to go on from where a move of the labels raises the bound on some rows; `None` where none does."""
    board = batch_board(batches, _subset(batches, _wide(batches, source), rng), size, LOOSE, rng)
    if board is None:
        return None
    there = elsewhere_on(board, State(found.moments, found.naturals, (), 0), rng)[0]
    return None if there is None else (there.moments, there.naturals)


def above(
    batches: Minibatches, source: AbstractSource, found: Any, rng: np.random.Generator, size: int, margin: float
) -> tuple[Moments, Naturals] | None:
    """A state to go on from where a small random push leads higher, as it does from a saddle; `None` at a maximum.

    Tried on the rows on which starts are tried: from here and from the push, the same sweeps.
    """
    if not any(block.discrete for block in batches.model.blocks.values()):
        return None
    subset = _subset(batches, source, rng)
    push = perturbed(batches.model, found.moments, rng)
    push |= push_program(batches.rest, batches.order)(push, found.naturals, rng.integers(2**31))
    zero = {name: batches.model.blocks[name].zeros() for name in batches.order}
    reached = []
    for start in ((found.moments, found.naturals), (push, zero)):
        state, bound = start, -np.inf
        for _ in range(PUSHED_SWEEPS):
            sums = _over(batches, state[0], subset, size)
            moments, naturals, bound, _, _ = batches.update(*state, sums, 1.0)
            state = (moments, naturals)
        reached.append((float(bound), state))
    return reached[1][1] if reached[1][0] > reached[0][0] + margin else None
