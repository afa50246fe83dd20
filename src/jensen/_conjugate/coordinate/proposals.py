"""What moves of the labels would gain or cost, to first order: which components to merge, to dissolve, to split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jensen._conjugate.coordinate.ascent import State
from jensen._conjugate.coordinate.board import Board

SPREAD = 0.1
"""The part of a seed's weight that lies on all rows of its component, so that its factors know their scale."""
PASSES = 3
"""Local sweeps of a component that is split."""
SAME = 0.02
"""Part of a pair's rows that must change sides for its division to be another."""
NEAR = 12
"""Other components by which the directions of one are seen."""
FEWEST = 4
"""Entries of a component that is split, at least."""


@dataclass(frozen=True)
class Removal:
    """Component `gone` given to `into`, or to whoever wants its rows (`None`); the nats of the rows that it costs."""

    gone: int
    into: int | None
    cost: float


@dataclass(frozen=True)
class Halves:
    """A group of rows in two components: the share of every row in the first, and the gain over one (nats)."""

    group: int
    first: np.ndarray
    gain: float


def level(potentials: np.ndarray) -> np.ndarray:
    """log Σ_k exp of them, (entries, 1)."""
    top = np.maximum(potentials.max(axis=1, keepdims=True), -1e300)
    return top + np.log(np.exp(potentials - top).sum(axis=1, keepdims=True))


def shares(potentials: np.ndarray) -> np.ndarray:
    """q(c_n = k)."""
    return np.exp(potentials - level(potentials))


def removals(board: Board, state: State, potentials: np.ndarray) -> list[Removal]:
    """Ways to be rid of a component, cheapest first: dissolved as things stand, or merged with its nearest.

    -Σ_n log(1 - q(c_n = k)) is what the rows lose when k is closed to them and all else stays; a merged pair is fitted
    anew.
    """
    before = level(potentials)
    logs = potentials - before
    probs, rows = np.exp(logs), np.arange(len(logs))
    first = np.argmax(logs, axis=1)
    rest = np.log1p(-np.minimum(probs, 1.0 - 1e-6))
    rest[rows, first] = level(_without_first(logs))[:, 0]
    found = [Removal(k, None, float(cost)) for k, cost in enumerate(-rest.sum(axis=0))]
    pairs, merged = nearest(logs), probs.copy()
    for gone, into in pairs:
        merged[:, into] += merged[:, gone]
        merged[:, gone] = 0.0
    after = board.placed(merged, state) if pairs else None
    if after is not None:
        new = board.potentials(after) - before
        for gone, into in pairs:
            left = np.maximum(1.0 - probs[:, gone] - probs[:, into], 0.0)
            with np.errstate(divide="ignore"):
                found.append(Removal(gone, into, float(-np.logaddexp(np.log(left), new[:, into]).sum())))
    return sorted(found, key=lambda one: one.cost)


def _without_first(logs: np.ndarray) -> np.ndarray:
    """The same with each row's largest entry at -inf."""
    found = logs.copy()
    found[np.arange(len(logs)), np.argmax(logs, axis=1)] = -np.inf
    return found


def nearest(logs: np.ndarray) -> list[tuple[int, int]]:
    """Disjoint pairs (the smaller, the larger), those first whose rows are most at home with each other."""
    without = _without_first(logs)
    first, second = np.argmax(logs, axis=1), np.argmax(without, axis=1)
    close = np.zeros((logs.shape[1],) * 2)
    np.add.at(close, (first, second), np.exp(0.25 * np.maximum(without.max(axis=1), -80.0)))
    mass = np.exp(logs).sum(axis=0)
    close = (close + close.T) / (1.0 + np.minimum(mass[:, None], mass))
    pairs, used = [], set()
    for i, j in zip(*np.unravel_index(np.argsort(-close, axis=None), close.shape), strict=True):
        if i < j and close[i, j] > 0 and not {i, j} & used:
            used |= {i, j}
            pairs.append((int(i), int(j)) if mass[i] < mass[j] else (int(j), int(i)))
    return pairs


def splits(board: Board, state: State, potentials: np.ndarray, rng: np.random.Generator) -> list[Halves]:
    """Every component with rows enough in two, those first that gain most; the group is its number."""
    return halved(board, state, potentials, np.argmax(potentials, axis=1), rng)


def redivided(
    board: Board, state: State, potentials: np.ndarray, rng: np.random.Generator
) -> list[tuple[tuple[int, int], Halves]]:
    """Pairs of neighbours whose rows are divided between them anew, with what that gains over how they are now."""
    pairs, hard = nearest(potentials - level(potentials)), np.argmax(potentials, axis=1)
    groups, now = np.full(board.entries, -1), np.zeros((board.entries, board.values))
    for i, (a, b) in enumerate(pairs):
        groups[(hard == a) | (hard == b)] = i
        now[groups == i, 2 * i : 2 * i + 2] = shares(potentials[groups == i][:, [a, b]])
    placed = board.placed(now, state) if pairs else None
    if placed is None:
        return []
    fitted = board.potentials(placed)
    gained = {i: float(level(fitted[groups == i, 2 * i : 2 * i + 2]).sum()) for i in range(len(pairs))}
    found = []
    for one in halved(board, state, potentials, groups, rng, absolute=True):
        gain, rows = one.gain - gained[one.group], groups == one.group
        moved = np.abs(one.first[rows] - now[rows, 2 * one.group]).mean()
        if gain > 0.0 and SAME < moved < 1.0 - SAME:
            found.append((pairs[one.group], Halves(one.group, one.first, gain)))
    return sorted(found, key=lambda one: -one[1].gain)


def halved(
    board: Board,
    state: State,
    potentials: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    absolute: bool = False,
) -> list[Halves]:
    """Groups of rows (numbered from 0, -1 for none), each in two by sweeps on its own rows, half of them at a time.

    They begin from two seeds, or from the two sides of the widest direction as other components see it: every second
    one, by chance. The gain is over one component for the group, or what its rows come to where `absolute`.
    """
    sizes = np.bincount(groups[groups >= 0], minlength=1)
    able = [int(k) for k in np.argsort(-sizes) if sizes[k] >= FEWEST][: board.values]
    sides = {k: _sides(potentials[groups == k]) for k in able if board.values > 3 and rng.random() < 0.5}
    starts = _seeded(board, state, groups, able, rng)
    for k, side in sides.items():
        if starts and 0 < side.sum() < len(side):
            starts[k] = np.stack([side, ~side], axis=1) * 1.0
    found, half = [], max(1, board.values // 2)
    for start in range(0, len(able) if starts else 0, half):
        found += _in_two(board, state, groups, able[start : start + half], starts, absolute)
    return sorted(found, key=lambda one: -one.gain)


def _sides(potentials: np.ndarray) -> np.ndarray:
    """Which rows lie on one side of their mean, along the direction in which they vary most.

    What the nearest other components say of a row, less their mean, is to first order linear in its statistics, in
    units of a component's own spread: two components in one are then far apart in it, in whatever family.
    """
    near = np.argsort(-potentials.mean(axis=0))[1 : NEAR + 1]
    seen = potentials[:, near] - potentials[:, near].mean(axis=1, keepdims=True)
    seen = seen - seen.mean(axis=0)
    direction = np.linalg.eigh(seen.T @ seen)[1][:, -1]
    return seen @ direction > 0.0


def _seeded(
    board: Board, state: State, groups: np.ndarray, able: Sequence[int], rng: np.random.Generator
) -> dict[int, np.ndarray]:
    """For every group the weights of its rows in two components that begin at two of them, far from each other."""
    probs = np.zeros((board.entries, board.values))
    seeds = {k: int(rng.choice(np.flatnonzero(groups == k))) for k in able}
    for i, k in enumerate(able):
        probs[groups == k, i] = _seed(groups == k, seeds[k], float((groups == k).sum()))
    alone = board.placed(probs, state) if able else None
    if alone is None:
        return {}
    potentials, found = board.potentials(alone), {}
    for i, k in enumerate(able):
        rows = np.flatnonzero(groups == k)
        gaps = potentials[rows, i].max() - potentials[rows, i]
        second = int(rng.choice(rows, p=gaps / gaps.sum() if gaps.sum() > 0 else None))
        found[k] = np.stack([_seed(groups == k, row, 0.5 * len(rows)) for row in (seeds[k], second)], axis=1)
    return found


def _seed(rows: np.ndarray, row: int, weight: float) -> np.ndarray:
    """Weights of some rows in a component that begins at one of them."""
    found = np.full(np.count_nonzero(rows), SPREAD * weight / np.count_nonzero(rows))
    found[np.count_nonzero(rows[:row])] += (1.0 - SPREAD) * weight
    return found


def _in_two(
    board: Board,
    state: State,
    groups: np.ndarray,
    chosen: Sequence[int],
    starts: dict[int, np.ndarray],
    absolute: bool,
) -> list[Halves]:
    """Groups `chosen` each in two columns of their own, from these weights; the other rows are left out."""
    whole = np.zeros((board.entries, board.values))
    parted = np.zeros_like(whole)
    for i, k in enumerate(chosen):
        rows = groups == k
        whole[rows, 2 * i] = 1.0
        parted[rows, 2 * i : 2 * i + 2] = starts[k]
    before = board.placed(whole, state)
    if before is None:
        return []
    base = np.zeros_like(whole) if absolute else board.potentials(before)
    potentials = base
    for _ in range(PASSES):
        after = board.placed(parted, before)
        if after is None:
            return []
        before, potentials, parted = after, board.potentials(after), np.zeros_like(whole)
        for i, k in enumerate(chosen):
            rows = groups == k
            parted[rows, 2 * i : 2 * i + 2] = shares(potentials[rows, 2 * i : 2 * i + 2])
    found = []
    for i, k in enumerate(chosen):
        pair, rows = potentials[:, 2 * i : 2 * i + 2], groups == k
        gain = float((level(pair[rows])[:, 0] - base[rows, 2 * i]).sum())
        found.append(Halves(k, shares(pair)[:, 0], gain))
    return found
