"""What moves of the labels would gain or cost, to first order: which components to merge, to dissolve, to split."""

from dataclasses import dataclass

import numpy as np

from jensen.algorithms.coordinate.ascent import State
from jensen.algorithms.coordinate.board import Board

SPREAD = 0.1
"""The part of a seed's weight that lies on all rows of its component, so that its factors know their scale."""
PASSES = 5
"""Local sweeps of a component that is split."""


@dataclass(frozen=True)
class Removal:
    """Component `gone` given to `into`, or to whoever wants its rows (`None`); the nats of the rows that it costs."""

    gone: int
    into: int | None
    cost: float


@dataclass(frozen=True)
class Split:
    """A component, the share of each of its rows that stays, and the nats of the rows that splitting it gains."""

    component: int
    stays: np.ndarray
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
    probs = np.exp(logs)
    first = np.argmax(logs, axis=1)
    rest = np.log1p(-np.minimum(probs, 1.0 - 1e-6))
    without = logs.copy()
    without[np.arange(len(logs)), first] = -np.inf
    rest[np.arange(len(logs)), first] = level(without)[:, 0]
    found = [Removal(k, None, float(cost)) for k, cost in enumerate(-rest.sum(axis=0))]
    pairs = _nearest(probs, without)
    merged = probs.copy()
    for gone, into in pairs:
        merged[:, into] += merged[:, gone]
        merged[:, gone] = 0.0
    after = board.placed(merged, state)
    if after is not None:
        new = board.potentials(after) - before
        for gone, into in pairs:
            left = np.maximum(1.0 - probs[:, gone] - probs[:, into], 0.0)
            with np.errstate(divide="ignore"):
                found.append(Removal(gone, into, float(-np.logaddexp(np.log(left), new[:, into]).sum())))
    return sorted(found, key=lambda one: one.cost)


def _nearest(probs: np.ndarray, without: np.ndarray) -> list[tuple[int, int]]:
    """Disjoint pairs (the smaller, the larger), those first whose rows are most at home with each other."""
    second = np.argmax(without, axis=1)
    first = np.argmax(probs, axis=1)
    close = np.zeros((probs.shape[1],) * 2)
    np.add.at(close, (first, second), np.exp(0.25 * np.maximum(without.max(axis=1), -80.0)))
    mass = probs.sum(axis=0)
    close = (close + close.T) / (1.0 + np.minimum(mass[:, None], mass))
    pairs, used = [], set()
    for i, j in zip(*np.unravel_index(np.argsort(-close, axis=None), close.shape), strict=True):
        if i < j and close[i, j] > 0 and not {i, j} & used:
            used |= {int(i), int(j)}
            pairs.append((int(i), int(j)) if mass[i] < mass[j] else (int(j), int(i)))
    return pairs


def splits(board: Board, state: State, potentials: np.ndarray, rng: np.random.Generator) -> list[Split]:
    """Every component of some rows split in two by sweeps on its own rows, half of the components at a time."""
    hard = np.argmax(potentials, axis=1)
    sizes = np.bincount(hard, minlength=board.values)
    able = [k for k in range(board.values) if sizes[k] >= 4]
    seeds = {k: int(rng.choice(np.flatnonzero(hard == k))) for k in able}
    probs = np.zeros(potentials.shape)
    for k in able:
        _seed(probs, k, seeds[k], hard == k, float(sizes[k]))
    alone = board.placed(probs, state)
    if alone is None:
        return []
    potentials = board.potentials(alone)
    seconds = {}
    for k in able:
        rows = np.flatnonzero(hard == k)
        gaps = potentials[rows, k].max() - potentials[rows, k]
        chance = gaps / gaps.sum() if gaps.sum() > 0 else None
        seconds[k] = int(rng.choice(rows, p=chance))
    found: list[Split] = []
    half = max(1, board.values // 2)
    order = sorted(able, key=lambda k: -sizes[k])
    for start in range(0, len(order), half):
        found += _in_two(board, state, hard, order[start : start + half], seeds, seconds)
    return sorted(found, key=lambda one: -one.gain)


def _seed(probs: np.ndarray, column: int, row: int, rows: np.ndarray, weight: float) -> None:
    probs[rows, column] = SPREAD * weight / rows.sum()
    probs[row, column] += (1.0 - SPREAD) * weight


def _in_two(
    board: Board, state: State, hard: np.ndarray, chosen: list[int], seeds: dict[int, int], seconds: dict[int, int]
) -> list[Split]:
    """Components `chosen` each in two columns of their own, the other rows left out; the gain is over one column."""
    whole = np.zeros((board.entries, board.values))
    parted = np.zeros_like(whole)
    for i, k in enumerate(chosen):
        rows = hard == k
        whole[rows, 2 * i] = 1.0
        _seed(parted, 2 * i, seeds[k], rows, 0.5 * rows.sum())
        _seed(parted, 2 * i + 1, seconds[k], rows, 0.5 * rows.sum())
    before = board.placed(whole, state)
    if before is None:
        return []
    base = board.potentials(before)
    potentials = None
    for _ in range(PASSES):
        after = board.placed(parted, before)
        if after is None:
            return []
        potentials = board.potentials(after)
        before = after
        parted = np.zeros_like(whole)
        for i, k in enumerate(chosen):
            rows = hard == k
            parted[rows, 2 * i : 2 * i + 2] = shares(potentials[rows, 2 * i : 2 * i + 2])
    assert potentials is not None
    found = []
    for i, k in enumerate(chosen):
        pair = potentials[:, 2 * i : 2 * i + 2]
        rows = hard == k
        gain = float((np.logaddexp(pair[rows, 0], pair[rows, 1]) - base[rows, 2 * i]).sum())
        found.append(Split(k, shares(pair)[:, 0], gain))
    return found
