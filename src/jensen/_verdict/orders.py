"""How draws number the states of a model, and all orders that states may have."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from jensen._modes.relabelling import Labelling, Values

APART = 3.0
"""Distance of two states in their sds from which on they are told apart."""


@dataclass(frozen=True)
class Orders:
    """How the draws of a pool number the states, next to a reference: the mean of the draws of q.

    Attributes:
        orders: (draws, states), by which each draw comes nearest to the reference. half: number of draws of q.
        apart: whether two states are far from each other in all of them.
    """

    labelling: Labelling
    orders: np.ndarray
    half: int
    apart: bool

    @classmethod
    def of(cls, labelling: Labelling, values: Values, half: int) -> "Orders":
        """By linear assignment, draw by draw."""
        features = labelling.features(values)[:half]
        spread = np.maximum(features.std(axis=(0, 1)), 1e-12)
        generic = 1e-6 * np.random.default_rng(0).normal(size=features.shape[1:])
        orders = labelling.orders(values, features.mean(axis=0) + generic * spread)
        nearest = np.take_along_axis(features, orders[:half, :, None], axis=1)
        mean, sd = nearest.mean(axis=0), nearest.std(axis=0)
        gaps = np.abs(mean[:, None] - mean[None]) / np.maximum(np.hypot(sd[:, None], sd[None]), 1e-12)
        pairs = [(i, j) for states in labelling.classes for i, j in itertools.combinations(states, 2)]
        return cls(labelling, orders, half, any(gaps[i, j].max() > APART for i, j in pairs))

    def reached(self, least: float) -> list[list[int]]:
        """Groups of states of which more than a share `least` of the draws of q swap two."""
        groups: list[list[int]] = []
        for states in self.labelling.classes:
            share = {i: np.bincount(self.orders[: self.half, i], minlength=self.labelling.size) for i in states}
            bar = min(least, 0.5 / len(states)) * self.half
            own: list[list[int]] = []
            for i in states:
                joined = [g for g in own if any(share[i][j] + share[j][i] > 2 * bar for j in g)]
                own = [g for g in own if g not in joined] + [sorted([i, *itertools.chain(*joined)])]
            groups += own
        return groups

    @property
    def entropy(self) -> float:
        """That of the orders of the draws of q, in nats: the log number of labellings that these cover, at most."""
        shares = np.unique(self.orders[: self.half], axis=0, return_counts=True)[1] / self.half
        return -float((shares * np.log(shares)).sum())

    def stays(self, groups: list[list[int]]) -> np.ndarray:
        """Draws that number every group's states among themselves."""
        home = np.arange(self.labelling.size)
        for group in groups:
            home[group] = group[0]
        return (home[self.orders] == home).all(axis=1)


def number_of(groups: list[list[int]]) -> int:
    """How many orders leave each group in place: Π n!."""
    return math.prod(math.factorial(len(group)) for group in groups)


def orders_within(size: int, groups: list[list[int]]) -> list[list[int]]:
    """Every order of so many states that leaves each group in place, the identity first."""
    orders = []
    for chosen in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = list(range(size))
        for group, images in zip(groups, chosen, strict=True):
            for place, image in zip(group, images, strict=True):
                order[place] = image
        orders.append(order)
    return orders
