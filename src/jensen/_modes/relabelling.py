"""Equivalent labellings: renumberings of the states of a latent class that leave the posterior as it is."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jensen._model import Target
from jensen._model.by_site import by_site, joined

_MOST_AXES, _MOST_STATES = 6, 64
_FEW = 12
"""Sets of axes tried where the data are large."""
_PROBES, _ENOUGH, _APART = 16, 3, 2
"""Points at which a renumbering is tried, how many of them have to say something, and to tell two states apart."""
_LOOSE = 1e-3
"""Rounding of a log joint, in nats, from which on a point says nothing."""
_TIES = 1e-9
"""Relative size of the noise that breaks ties between states that are alike."""
_STIRRED = 64
"""Entries of a discrete latent that get other values in three of four draws."""

Axis = tuple[str, int | None]
"""A latent and one of its axes; `None` where its values, not its places, are the numbers of states."""
Values = dict[str, np.ndarray]
"""Latent -> (draws, ...) on the supports."""


@dataclass(frozen=True)
class Labelling:
    """States that can be renumbered: along `axes` of the latents, together, within each of the `classes` of states.

    Attributes:
        axes: (latent, axis) pairs, all of one length; the axes of a latent do not count the draws.
        classes: groups of interchangeable states, each of two or more.
        size: number of states.
    """

    axes: tuple[Axis, ...]
    classes: tuple[tuple[int, ...], ...]
    size: int

    @property
    def count(self) -> int:
        """How many labellings there are: Π n! over the classes."""
        return math.prod(math.factorial(len(states)) for states in self.classes)

    def permuted(self, values: Values, order: Sequence[int]) -> Values:
        """The latents with state `order[i]` renumbered as i, in every draw."""
        out = dict(values)
        for name, axis in self.axes:
            if axis is None:
                out[name] = np.argsort(order)[out[name]].astype(out[name].dtype)
            else:
                out[name] = np.take(out[name], order, axis=axis + 1)
        return out

    def rotated(self, values: Values, turn: np.ndarray) -> Values:
        """The latents with `turn` (size, size) applied along the axes, in every draw."""
        out = dict(values)
        for name, axis in self.axes:
            if axis is not None:
                moved = np.moveaxis(np.asarray(out[name], float), axis + 1, -1) @ turn
                out[name] = np.moveaxis(moved, -1, axis + 1)
        return out

    def features(self, values: Values) -> np.ndarray:
        """One row of numbers for each state, whatever its number: (draws, states, features)."""
        parts = []
        for name in dict.fromkeys(name for name, _ in self.axes):
            along = [axis + 1 for own, axis in self.axes if own == name and axis is not None]
            array = values[name]
            if along:
                array = np.moveaxis(array, along, range(1, len(along) + 1))
                array = array[(slice(None), *[np.arange(self.size)] * len(along))]
            else:
                array = np.arange(self.size)[:, None] == array.reshape(len(array), 1, -1)
            parts.append(array.reshape(len(array), self.size, -1).astype(float))
        return np.concatenate(parts, axis=2)

    def orders(self, values: Values, to: np.ndarray) -> np.ndarray:
        """(draws, states): the order, within the classes, that brings each draw nearest to features `to`.

        Of states that are alike in a draw, as discrete ones often are, every order comes up equally often.
        """
        from scipy.optimize import linear_sum_assignment  # not for a process that renumbers nothing

        own = self.features(values)
        scale = np.maximum(np.concatenate([own, to[None]]).std(axis=(0, 1)), 1e-12)
        gaps = (((to[:, None] - own[:, None]) / scale) ** 2).sum(axis=-1)
        gaps *= 1.0 + _TIES * np.random.default_rng(0).random(gaps.shape)
        found = np.tile(np.arange(self.size), (len(own), 1))
        for states in self.classes:
            rows = np.array(states)
            costs = gaps[:, rows[:, None], rows]
            for draw, cost in enumerate(costs):
                found[draw, rows] = rows[linear_sum_assignment(cost)[1]]
        return found

    def aligned(self, values: Values, to: Values) -> Values:
        """One draw, renumbered within the classes to be as near as possible to another one."""
        return self.permuted(values, self.orders(values, self.features(to)[0])[0])


def find_labellings(
    log_joint: Callable[[Values], np.ndarray],
    values: Values,
    states: Sequence[int] = (),
    coded: Mapping[str, int] | None = None,
    eps: float = 2e-16,
    frugal: bool = False,
) -> tuple[Labelling, ...]:
    """The interchangeable states of a model, each set of axes at most once.

    `values` are a few draws, and `log_joint` is log p(x, z) on the supports, up to what renumbering leaves alone. Axes
    of equal length that could index the states are permuted together; they count where the log joint stays the same to
    rounding at every draw at which it says something, three at least, and two states are alike in no latent at two of
    these (where all draws have the same discrete values, permuting them does nothing; `_stirred` gives them others).
    The smallest sets come first, so that what can be renumbered by itself is; sizes in `states` are tried before
    others, and latents in `coded` hold numbers of so many states. `frugal` tries fewer sets.
    """
    test = _Test(log_joint, _stirred(values, coded or {}), eps)
    lengths: dict[int, list[Axis]] = {}
    for name, array in values.items():
        for axis, size in enumerate(array.shape[1:]):
            lengths.setdefault(size, []).append((name, axis))
    for size in lengths:
        lengths[size] += [(name, None) for name, count in (coded or {}).items() if count == size]
    found: list[Labelling] = []
    for size in dict.fromkeys([n for n in states if n in lengths] + sorted(lengths)):
        if not 2 <= size <= _MOST_STATES or not test.says_something:
            continue
        used = {axis for one in found for axis in one.axes}
        free = [axis for axis in lengths[size] if axis not in used]
        for axes in test.passing(axis_sets(free, frugal), size, frugal):
            if not any(axis in one.axes for one in found for axis in axes):
                classes = test.classes(axes, size, lengths[size])
                found += [Labelling(axes, classes, size)] if classes else []
    return tuple(found)


def find_rotations(
    log_joint: Callable[[Values], np.ndarray], values: Values, found: Sequence[Labelling], eps: float = 2e-16
) -> tuple[Labelling, ...]:
    """The labellings along whose axes states can be not only renumbered but mixed by any orthogonal matrix.

    Renumberings are orthogonal matrices, so only what can be renumbered is tried. Two random rotations generate a dense
    part of all (Auerbach 1934): what leaves the log joint as it is under both does so under every one. Discrete latents
    have values that nothing can be mixed of.
    """

    def mixes(one: Labelling) -> bool:
        return all(axis is not None and values[name].dtype.kind == "f" for name, axis in one.axes)

    whole = [one for one in found if len(one.classes[0]) == one.size and mixes(one)]
    if not whole:
        return ()
    test, rng, kept = _Test(log_joint, values, eps), np.random.default_rng(0), []
    for one in whole:
        turns = [np.linalg.qr(rng.normal(size=(one.size, one.size)))[0] for _ in range(2)]
        if test.says_something and all(test.same_rotated(one, turn) for turn in turns):
            kept.append(one)
    return tuple(kept)


class _Test:
    """Renumberings and rotations, tried at generic draws."""

    def __init__(self, log_joint: Callable[[Values], np.ndarray], values: Values, eps: float):
        self.log_joint, here = log_joint, log_joint(values)
        tolerance = 0.1 * np.sqrt(eps) * (1.0 + np.abs(np.where(np.isfinite(here), here, np.inf)))
        self.loose = max(_LOOSE, 1e4 * eps)
        kept = np.flatnonzero(tolerance < self.loose)[:_PROBES]
        self.values = {name: array[kept] for name, array in values.items()}
        self.here, self.tolerance = here[kept], tolerance[kept]

    @property
    def says_something(self) -> bool:
        return len(self.here) >= _ENOUGH

    def same(self, moves: Sequence[tuple[tuple[Axis, ...], list[int]]], draws: int) -> np.ndarray:
        """Which of these renumberings leave the log joint as it is at the first `draws` draws."""
        some = {name: array[:draws] for name, array in self.values.items()}
        images = [Labelling(axes, (), len(order)).permuted(some, order) for axes, order in moves]
        there = self.log_joint({name: np.concatenate([image[name] for image in images]) for name in some})
        gaps = np.abs(there.reshape(len(moves), -1) - self.here[:draws])
        return (gaps < self.tolerance[:draws]).all(axis=1)

    def same_rotated(self, labelling: Labelling, turn: np.ndarray) -> bool:
        """Whether an orthogonal matrix along the axes of a labelling leaves the log joint as it is at every draw."""
        with np.errstate(all="ignore"):  # a rotation may leave the supports
            gaps = np.abs(self.log_joint(labelling.rotated(self.values, turn)) - self.here)
        return bool((gaps < self.tolerance).all())

    def passing(self, sets: list[tuple[Axis, ...]], size: int, frugal: bool) -> list[tuple[Axis, ...]]:
        """The sets of axes along which some two states can be swapped."""
        pairs = {(0, 1), (size - 2, size - 1)}
        if size <= 8 and not frugal:
            pairs |= {(0, j) for j in range(1, size)} | {(j, j + 1) for j in range(size - 1)}
        moves = [(axes, _swap(size, *pair)) for axes in sets for pair in sorted(pairs)]
        if not moves:
            return []
        first = self.same(moves, 1)
        return list(dict.fromkeys(axes for (axes, _), fine in zip(moves, first, strict=True) if fine))

    def classes(self, axes: tuple[Axis, ...], size: int, every: list[Axis]) -> tuple[tuple[int, ...], ...]:
        """Groups of two or more states any two of which can be swapped; `every` axis of the size tells them apart."""
        latents = dict.fromkeys(name for name, _ in every)
        parts = [Labelling(tuple(a for a in every if a[0] == n), (), size).features(self.values) for n in latents]
        left, groups = list(range(size)), []
        while len(left) > 1:
            first, *others = left
            same = self.same([(axes, _swap(size, first, other)) for other in others], len(self.here))
            apart = np.all([(part[:, first, None] != part[:, others]).any(axis=2) for part in parts], axis=0)
            same &= apart.sum(axis=0) >= _APART
            groups.append([first, *(other for other, fine in zip(others, same, strict=True) if fine)])
            left = [other for other, fine in zip(others, same, strict=True) if not fine]
        return tuple(tuple(group) for group in groups if len(group) > 1)


def _stirred(values: Values, coded: Mapping[str, int]) -> Values:
    """The draws, three of four with other values of some entries of the coded latents."""
    rng, out = np.random.default_rng(0), dict(values)
    for name, count in coded.items():
        array = values[name].copy()
        for row in (array.reshape(len(array), -1)[i] for i in range(len(array)) if i % 4):
            entries = rng.permutation(row.size)[:_STIRRED]
            row[entries] = rng.integers(count, size=len(entries))
        out[name] = array
    return out


def axis_sets(axes: list[Axis], frugal: bool) -> list[tuple[Axis, ...]]:
    """Sets of axes, smallest first; of very many axes few sets only."""
    most = len(axes) if len(axes) <= _MOST_AXES else 2
    sets = [chosen for count in range(1, most + 1) for chosen in itertools.combinations(axes, count)]
    sets += [tuple(axes)] if len(axes) > most else []
    return [*sets[: _FEW - 1], sets[-1]] if frugal and len(sets) > _FEW else sets


def _swap(size: int, i: int, j: int) -> list[int]:
    order = list(range(size))
    order[i], order[j] = j, i
    return order


def anywhere(dim: int) -> np.ndarray:
    """A few points of R^D that know nothing of the posterior."""
    return np.random.default_rng(1).normal(size=(_ENOUGH, dim))


def on_supports(target: Target) -> Callable[[Values], np.ndarray]:
    """log p of latents as `by_site` gives them, in nats; not a number where the chart cannot hold them."""

    def log_joint(latents: Values) -> np.ndarray:
        points, log_det = joined(target, latents)
        lost = ~np.isfinite(points).all(axis=1)
        return np.where(lost, np.nan, target.value(np.nan_to_num(points, posinf=0.0, neginf=0.0)) - log_det)

    return log_joint


def labellings_of(target: Target, points: np.ndarray) -> tuple[Labelling, ...]:
    """The interchangeable states of a density over R^D; `points` (n, D) are generic draws, finite ones among them."""
    states = [len(site.values) for site in target.structure.summed if site.values is not None]
    # Near a mode at which some latents have lost their effect, more would look alike than do.
    values = by_site(target, np.concatenate([anywhere(target.dim), points]))
    return find_labellings(on_supports(target), values, states, eps=target.eps, frugal=target.heavy)
