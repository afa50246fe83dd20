"""Equivalent labellings: renumberings of the states of a latent class that leave the posterior as it is."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from jensen.models import Target

_MOST_AXES, _MOST_STATES = 6, 64
_FEW = 12
"""Sets of axes tried where the data are large."""

Axis = tuple[str, int]
"""A latent and one of its axes."""


@dataclass(frozen=True)
class Labelling:
    """States that can be renumbered: along `axes` of the latents, together, within each of the `classes` of states.

    Attributes:
        axes: (latent, axis) pairs, all of one length.
        classes: groups of interchangeable states, each of two or more.
    """

    axes: tuple[Axis, ...]
    classes: tuple[tuple[int, ...], ...]

    def swap(self, latent: dict[str, np.ndarray], first: int, second: int) -> list[int]:
        """The order that swaps two states."""
        name, axis = self.axes[0]
        return _swap(latent[name].shape[axis], first, second)

    def permuted(self, latent: dict[str, np.ndarray], order: Sequence[int]) -> dict[str, np.ndarray]:
        """The latents with state `order[i]` renumbered as i."""
        out = dict(latent)
        for name, axis in self.axes:
            out[name] = np.take(out[name], order, axis=axis)
        return out

    def features(self, latent: dict[str, np.ndarray], size: int) -> np.ndarray:
        """One row of numbers for each state, whatever its number: (states, features)."""
        parts = []
        for name in dict.fromkeys(name for name, _ in self.axes):
            along = [axis for own, axis in self.axes if own == name]
            array = np.moveaxis(latent[name], along, range(len(along)))
            parts.append(array[(np.arange(size),) * len(along)].reshape(size, -1))
        return np.concatenate(parts, axis=1)

    def aligned(self, latent: dict[str, np.ndarray], to: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`latent`, renumbered within the classes to be as near as possible to `to`."""
        name, axis = self.axes[0]
        size = latent[name].shape[axis]
        own, other = self.features(latent, size), self.features(to, size)
        spread = np.maximum(np.concatenate([own, other]).std(axis=0), 1e-12)
        order = np.arange(size)
        for states in self.classes:
            rows = list(states)
            gaps = (other[rows][:, None] - own[rows][None]) / spread
            _, chosen = linear_sum_assignment((gaps**2).sum(axis=-1))
            order[rows] = np.array(rows)[chosen]
        return self.permuted(latent, order.tolist())


def find_labelling(target: Target, point: np.ndarray) -> Labelling | None:
    """The interchangeable states of a model, if it has some; `point` is one at which its log density is finite.

    Axes of equal length that could index the states are permuted together, at random points around `point`; a set of
    axes counts when the log joint on the supports stays the same to rounding. The values of a discrete latent that was
    summed out give the first length tried. The largest set of axes is preferred.
    """
    rng = np.random.default_rng(0)
    points = point + 0.3 * rng.normal(size=(3, target.dim))
    lengths: dict[int, list[Axis]] = {}
    for site in target.structure.latents:
        for axis, size in enumerate(site.shape):
            lengths.setdefault(size, []).append((site.name, axis))
    first = [len(site.values) for site in target.structure.summed if site.values is not None]
    for size in dict.fromkeys([n for n in first if n in lengths] + sorted(lengths)):
        if not 2 <= size <= _MOST_STATES:
            continue
        for axes in _axis_sets(lengths[size], target.heavy):
            for swap in dict.fromkeys([(0, 1), (size - 2, size - 1)]):
                if _unchanged(target, points[:1], axes, _swap(size, *swap)):
                    found = Labelling(axes, _classes(target, points, axes, size))
                    if found.classes:
                        return found
    return None


def _axis_sets(axes: list[Axis], heavy: bool) -> list[tuple[Axis, ...]]:
    """Sets of axes, largest first."""
    if len(axes) > _MOST_AXES:
        return [tuple(axes)]
    sizes = range(len(axes), 0, -1)
    sets = [chosen for count in sizes for chosen in itertools.combinations(axes, count)]
    return sets[:_FEW] if heavy else sets


def _swap(size: int, i: int, j: int) -> list[int]:
    order = list(range(size))
    order[i], order[j] = j, i
    return order


def _unchanged(target: Target, points: np.ndarray, axes: tuple[Axis, ...], order: list[int]) -> bool:
    """Whether renumbering leaves log p(x, z), as a density on the supports, the same at every point."""
    move = Labelling(axes, ())
    latents = [target.latent(point) for point in points]
    moved = np.stack([target.unconstrain(move.permuted(latent, order)) for latent in latents])
    if not np.isfinite(moved).all():
        return False
    here = target.value(points) - np.array([target.log_det(point) for point in points])
    there = target.value(moved) - np.array([target.log_det(point) for point in moved])
    tolerance = np.sqrt(target.eps) * 1e-1 * (1.0 + np.abs(here))
    return bool(np.isfinite(here).all() and (np.abs(here - there) < tolerance).all())


def _classes(target: Target, points: np.ndarray, axes: tuple[Axis, ...], size: int) -> tuple[tuple[int, ...], ...]:
    """Groups of states any two of which can be swapped."""
    groups: list[list[int]] = []
    for state in range(size):
        for group in groups:
            if _unchanged(target, points, axes, _swap(size, group[0], state)):
                group.append(state)
                break
        else:
            groups.append([state])
    return tuple(tuple(group) for group in groups if len(group) > 1)
