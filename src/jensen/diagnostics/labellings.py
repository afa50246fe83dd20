"""Importance weights that count every equivalent labelling of a posterior, whatever number of them q covers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpyro.distributions import constraints

from jensen.algorithms.relabel import Labelling, Values, find_labellings
from jensen.diagnostics.importance import Pool, weigh

MOST = 24
"""Renumberings over which q is averaged."""
SWAPPED = 0.05
"""Share of draws with two states swapped from which on q covers both orders."""
APART = 3.0
"""Distance of two states in their sds from which on they are told apart."""
TOLD = 0.1
"""Nats of labellings that q does not cover from which on they are told."""
PROBES = 16
"""Draws at which renumberings are tried."""


def count_in_words(log_count: float) -> str:
    """A count of labellings, whose digits may be many."""
    return f"{round(np.exp(log_count)):,}" if log_count < 13.0 else f"10^{log_count / np.log(10.0):.1f}"


def numbered(support: Any) -> int:
    """How many values 0, 1, ... a discrete support has; 0 where it has others, or not finitely many."""
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if support is constraints.boolean:
        return 2
    if not isinstance(high, (int, np.integer)) or low != 0:
        return 0
    return int(high) + 1


@dataclass(frozen=True)
class View:
    """A pool as draws of latents that could be renumbered.

    Attributes:
        values: the latents on their supports, site -> (draws, ...).
        log_joint: log p(x, z) of such values. densities: log q and log proposal of them, both on the supports, or
            `None` where those cannot be evaluated elsewhere than at the draws.
        states, coded, eps, frugal: see `jensen.algorithms.relabel.find_labellings`.
    """

    values: Values
    log_joint: Callable[[Values], np.ndarray]
    densities: Callable[[Values], tuple[np.ndarray, np.ndarray]] | None
    states: Sequence[int] = ()
    coded: Mapping[str, int] | None = None
    eps: float = 2e-16
    frugal: bool = False


@dataclass(frozen=True)
class Counted:
    """A pool whose weights count every labelling.

    Attributes:
        pool: the same draws, q and the proposal averaged over the labellings that the draws of q reach, the log joint
            raised by the log number of the others. log_count: log of the number of labellings; 0 where there is one,
            or where the states are alike and q covers every order of them.
        log_covered: log of how many of them the draws of q cover, as measured.
    """

    pool: Pool
    log_count: float = 0.0
    log_covered: float = 0.0

    @property
    def sentence(self) -> str:
        """What a verdict says of the labellings; empty where there is one."""
        if not self.log_count:
            return ""
        part = "all" if self.log_covered > self.log_count - TOLD else f"about {np.exp(self.log_covered):.2g}"
        covered = "one" if self.log_covered < TOLD else part
        return (
            f"The posterior has {count_in_words(self.log_count)} equivalent labellings (renumbering its "
            "interchangeable states leaves the log density as it is). "
            f"The draws of q cover {covered} of them; `evidence` counts them all, and one holds {self.log_count:.2f} "
            "nats less."
        )


def counted(pool: Pool, view: View) -> Counted:
    """Weights of one pool that are unbiased for p(x) with all its labellings.

    Let G be the group of renumberings, H a subgroup, and D a region that H leaves in place and of which the cosets of H
    tile the space: where the renumbering nearest to a reference lies in H. Then p(x) = |G| / |H| ∫_D p(x, z) dz, and
    with q_H the average of q over H, |G| / |H| · p / q_H on D and 0 elsewhere has the mean p(x) under q. H holds the
    orders that draws of q reach. It is exact for every H; of more than `MOST` orders, q itself stands for q_H, which is
    right where it covers them all.
    """
    probes = np.concatenate([np.arange(min(PROBES, pool.half)), pool.half + np.arange(min(PROBES // 4, pool.half))])
    some = {name: value[probes] for name, value in view.values.items()}
    found = find_labellings(view.log_joint, some, view.states, view.coded, view.eps, view.frugal) if some else ()
    if not found:
        return Counted(pool)
    own = [_Orders.of(one, view.values, pool.half) for one in found]
    reached = [orders.reached(0.0) for orders in own]
    if math.prod(_size(groups) for groups in reached) > MOST or view.densities is None:
        reached = [orders.reached(SWAPPED if view.densities else 1.0) for orders in own]
    kept, left = np.ones(len(pool.points), bool), 0.0
    for orders, groups in zip(own, reached, strict=True):
        kept &= orders.stays(groups)
        left += math.log(orders.labelling.count) - math.log(_size(groups))
    log_q, log_proposal = _averaged(pool, view, found, reached)
    joint = np.where(kept, pool.log_joint + left, -np.inf)
    held = kept[: pool.half] & np.isfinite(pool.log_joint[: pool.half])
    gain = float((pool.log_q - log_q)[: pool.half][held].mean()) if held.any() else 0.0
    told = [
        orders.labelling
        for orders, groups in zip(own, reached, strict=True)
        if gain > TOLD or _size(groups) < orders.labelling.count or orders.apart
    ]
    log_count = sum(math.log(one.count) for one in told)
    covered = max(log_count - max(left + gain, 0.0), 0.0) if told else 0.0
    return Counted(weigh(pool.points, joint, log_q, log_proposal), log_count, covered)


@dataclass(frozen=True)
class _Orders:
    """How the draws of a pool number the states, next to a reference."""

    labelling: Labelling
    orders: np.ndarray
    half: int
    apart: bool

    @classmethod
    def of(cls, labelling: Labelling, values: Values, half: int) -> "_Orders":
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
            bar = min(least, 0.5 / len(states)) * self.half if least < 1.0 else np.inf
            own: list[list[int]] = []
            for i in states:
                joined = [g for g in own if any(share[i][j] + share[j][i] > 2 * bar for j in g)]
                own = [g for g in own if g not in joined] + [sorted([i, *itertools.chain(*joined)])]
            groups += own
        return groups

    def stays(self, groups: list[list[int]]) -> np.ndarray:
        """Draws that number every group's states among themselves."""
        home = np.arange(self.labelling.size)
        for group in groups:
            home[group] = group[0]
        return (home[self.orders] == home).all(axis=1)


def _size(groups: list[list[int]]) -> int:
    return math.prod(math.factorial(len(group)) for group in groups)


def _averaged(
    pool: Pool, view: View, found: Sequence[Labelling], groups: Sequence[list[list[int]]]
) -> tuple[np.ndarray, np.ndarray]:
    """log q and log proposal of the pool, averaged over all orders within the groups."""
    size = math.prod(_size(one) for one in groups)
    if size == 1 or size > MOST or view.densities is None:
        return pool.log_q, pool.log_proposal
    here = view.densities(view.values)
    sums = [np.asarray(density, float) for density in here]
    moves = [list(_orders_within(one.size, own)) for one, own in zip(found, groups, strict=True)]
    for chosen in itertools.islice(itertools.product(*moves), 1, None):
        values = view.values
        for labelling, order in zip(found, chosen, strict=True):
            values = labelling.permuted(values, order)
        there = [np.where(np.isnan(density), -np.inf, density) for density in view.densities(values)]
        sums = [np.logaddexp(one, other) for one, other in zip(sums, there, strict=True)]
    with np.errstate(invalid="ignore"):
        gains = [np.nan_to_num(one - own) - math.log(size) for one, own in zip(sums, here, strict=True)]
    return pool.log_q + gains[0], pool.log_proposal + gains[1]


def _orders_within(size: int, groups: list[list[int]]) -> list[list[int]]:
    """Every order of so many states that leaves each group in place, the identity first."""
    orders = []
    for chosen in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = list(range(size))
        for group, images in zip(groups, chosen, strict=True):
            for place, image in zip(group, images, strict=True):
                order[place] = image
        orders.append(order)
    return orders
