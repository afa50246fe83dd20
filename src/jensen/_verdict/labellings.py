"""Importance weights that count every equivalent labelling of a posterior, whatever number of them q covers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpyro.distributions import constraints

from jensen._modes.relabelling import Axis, Labelling, Values, axis_sets, find_labellings, find_rotations
from jensen._verdict.importance import Pool, weigh
from jensen._verdict.orders import Orders, number_of, orders_within

MOST = 24
"""Renumberings over which q is averaged."""
SWAPPED = 0.05
"""Share of draws with two states swapped from which on q covers both orders."""
TOLD = 0.1
"""Nats of labellings that q does not cover from which on they are told."""
PROBES, PILOT = 16, 64
"""Draws at which renumberings are tried, and on which other orders are weighed first."""
RARE = 3.0
"""Nats by which the density of q falls short of the posterior's where it hardly goes."""
LEAST = 1e-3
"""Share of the evidence on those from which on other orders are weighed on all draws."""


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
        states, coded, eps, frugal: see `jensen._modes.relabelling.find_labellings`; `states` are the numbers of values
            of discrete latents that were summed out.
        anywhere: such values at a few points that know nothing of q. A renumbering counts only if it leaves the log
            joint as it is there too: where q keeps some latents without effect, more would look alike than do.
    """

    values: Values
    log_joint: Callable[[Values], np.ndarray]
    densities: Callable[[Values], tuple[np.ndarray, np.ndarray]] | None
    states: Sequence[int] = ()
    coded: Mapping[str, int] | None = None
    eps: float = 2e-16
    frugal: bool = False
    anywhere: Values | None = None


@dataclass(frozen=True)
class Counted:
    """A pool whose weights count every labelling.

    Attributes:
        pool: the same draws, q and the proposal averaged over the labellings that the draws of q reach, the log joint
            raised by the log number of the others. log_count: log of the number of labellings; 0 where there is one,
            or where the states are alike and q covers every order of them.
        log_covered: log of how many of them the draws of q cover, as measured. share_elsewhere: the part of the
            evidence where states that are not interchangeable are renumbered and q is not, as measured.
        rotated: sites whose states can be mixed by any orthogonal matrix, those that turn together in one group;
            turned: the same where q is of one rotation and the weights count all of them. found: what was found.
    """

    pool: Pool
    log_count: float = 0.0
    log_covered: float = 0.0
    share_elsewhere: float = 0.0
    rotated: tuple[tuple[str, ...], ...] = ()
    found: tuple[Labelling, ...] = ()
    turned: tuple[tuple[str, ...], ...] = ()

    @property
    def turning(self) -> str:
        """What a verdict says of rotations; empty where there are none."""
        return " ".join(
            f"Rotating {' and '.join(repr(name) for name in names)} along the axis of states leaves the log density as "
            "it is (a continuum of equivalent answers): q describes one rotation, and only what no rotation changes, "
            "such as sums of squares and products over that axis, is told by the data."
            for names in (*self.rotated, *self.turned)
        )

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


def renumbered(pool: Pool, view: View, found: Sequence[Labelling]) -> tuple[Labelling | None, np.ndarray]:
    """(the orders of states of a discrete latent that are not all interchangeable, log p(x, z) averaged over them).

    With fixed unequal weights or unequal priors another order of the states is another posterior mode, which no draw of
    q may have reached; the average of p over all orders has the same integral over z as p, and q reaches all of it.
    `None` where there are no such states, more than `MOST` orders of them, the orders weigh nothing on a few draws of
    q, or the data are large.
    """
    coded = view.coded or {}
    for size in dict.fromkeys([*view.states, *coded.values()]):
        own = [one for one in found if one.size == size]
        if view.frugal or not 2 <= math.factorial(size) <= MOST or any(len(one.classes[0]) == size for one in own):
            continue
        axes: list[Axis] = [
            (name, i) for name, a in view.values.items() for i, n in enumerate(a.shape[1:]) if n == size
        ]
        axes += [(name, None) for name, n in coded.items() if n == size]
        rows = np.flatnonzero(np.isfinite(pool.log_ratios))[:PILOT]
        tried = [Labelling(own[0].axes, ((*range(size),),), size)] if own else []
        tried = tried or [Labelling(some, ((*range(size),),), size) for some in axis_sets(axes, True)]
        gains = [_others(pool, view, one, rows) for one in tried]
        if gains and max(gains) > LEAST:
            whole = tried[int(np.argmax(gains))]
            return whole, _mean_joint(pool, view, whole, np.arange(len(pool.points)))
    return None, pool.log_joint


def _others(pool: Pool, view: View, labelling: Labelling, rows: np.ndarray) -> float:
    """What orders other than the own one weigh on draws of q next to it, where q itself hardly goes."""
    if not len(rows) or view.densities is None:
        return 0.0
    values = {name: value[rows] for name, value in view.values.items()}
    log_q, log_joint = view.densities(values)[0], view.log_joint(values)
    typical = float(np.median(log_joint - log_q))
    gain = 0.0
    for order in orders_within(labelling.size, [list(range(labelling.size))])[1:]:
        moved = labelling.permuted(values, order)
        there, covered = view.log_joint(moved), view.densities(moved)[0]
        new = np.isfinite(there) & ~(there - covered < typical + RARE)
        gain += float(np.exp(np.where(new, there - log_q - typical, -np.inf)).mean())
    return gain


def _mean_joint(pool: Pool, view: View, labelling: Labelling, rows: np.ndarray) -> np.ndarray:
    """log of the average of p(x, z) over all orders of the states, at some draws."""
    values, total = {name: value[rows] for name, value in view.values.items()}, pool.log_joint[rows]
    base = total - np.nan_to_num(view.log_joint(values), nan=-np.inf)
    base = np.where(np.isfinite(base), base, 0.0)
    for order in orders_within(labelling.size, [list(range(labelling.size))])[1:]:
        there = view.log_joint(labelling.permuted(values, order)) + base
        total = np.logaddexp(total, np.where(np.isnan(there), -np.inf, there))
    return total - math.log(labelling.count)


def counted(pool: Pool, view: View) -> Counted:
    """Weights of one pool that are unbiased for p(x) with all its labellings.

    Let G be the group of renumberings, H a subgroup, and D a region that H leaves in place and of which the cosets of H
    tile the space: where the renumbering nearest to a reference lies in H. Then p(x) = |G| / |H| ∫_D p(x, z) dz, and
    with q_H the average of q over H, |G| / |H| · p / q_H on D and 0 elsewhere has the mean p(x) under q. H holds the
    orders that draws of q reach. It is exact for every H; of more than `MOST` orders, or where q cannot be evaluated
    elsewhere, q itself stands for q_H, which is unbiased too, and even where q covers them alike. Of states that are
    not interchangeable the average over their orders has the same integral as p(x, z) and takes its place
    (`renumbered`).
    """
    probes = np.concatenate([np.arange(min(PROBES, pool.half)), pool.half + np.arange(min(PROBES // 4, pool.half))])
    some = {name: value[probes] for name, value in view.values.items()}
    if view.anywhere is not None:
        some = {name: np.concatenate([view.anywhere[name], value]) for name, value in some.items()}
    found = find_labellings(view.log_joint, some, view.states, view.coded, view.eps, view.frugal) if some else ()
    turning = find_rotations(view.log_joint, some, found, view.eps) if found and view.densities else ()
    rotated = tuple(tuple(dict.fromkeys(name for name, _ in one.axes)) for one in turning if _in_one(view, some, one))
    whole, log_joint = renumbered(pool, view, found)
    every = [one for one in found if not whole or not set(one.axes) & set(whole.axes)] + ([whole] if whole else [])
    if not every:
        return Counted(pool)
    own = [Orders.of(one, view.values, pool.half) for one in every]
    reached = [orders.reached(0.0) for orders in own]
    if math.prod(number_of(groups) for groups in reached) > MOST or view.densities is None:
        reached = [orders.reached(SWAPPED) for orders in own]
    kept, left = np.ones(len(pool.points), bool), 0.0
    for orders, groups in zip(own, reached, strict=True):
        kept &= orders.stays(groups)
        left += math.log(orders.labelling.count) - math.log(number_of(groups))
    log_q, log_proposal = _averaged(pool, view, every, reached)
    with_all = weigh(pool.points, np.where(kept, log_joint + left, -np.inf), log_q, log_proposal)
    inside = {orders.labelling: number_of(groups) for orders, groups in zip(own, reached, strict=True)}
    apart = {orders.labelling for orders in own if orders.apart}
    if view.densities is None:  # E[log q - log of its average over all orders] is at least what their entropy lacks
        most = {o.labelling: max(o.entropy, math.log(inside[o.labelling])) for o in own}
        missing = {one: math.log(one.count) - covered for one, covered in most.items()}
        beyond, few = sum(missing.values()), {one for one in found if missing.get(one, 0.0) > TOLD}
    else:
        held = kept[: pool.half] & np.isfinite(pool.log_joint[: pool.half])
        gain = float((pool.log_q - log_q)[: pool.half][held].mean()) if held.any() else 0.0
        beyond, few = left + gain, {one for one in found if gain > TOLD or inside.get(one, 0) < one.count}
    told = [one for one in found if one.size in view.states or one in apart or one in few]
    log_count = sum(math.log(one.count) for one in told)
    covered = max(log_count - max(beyond, 0.0), 0.0)
    return Counted(with_all, log_count, covered, _share(pool, with_all) if whole else 0.0, rotated, found)


def _in_one(view: View, values: Values, labelling: Labelling) -> bool:
    """Whether q hardly goes where half a turn of two states takes its draws: it describes one rotation of many.

    A q that is much the same under rotations (a posterior that is spherical) describes all of them.
    """
    assert view.densities is not None  # the caller has looked
    turn = np.eye(labelling.size)
    turn[:2, :2] = -np.eye(2)
    here, there = view.densities(values)[0], view.densities(labelling.rotated(values, turn))[0]
    with np.errstate(invalid="ignore"):
        return bool(np.nanmedian(here - there) > RARE)


def _share(pool: Pool, with_all: Pool) -> float:
    """The part of the evidence that the second pool sees and the first does not, as far as it is no noise."""
    (own, own_se), (every, error) = pool.log_evidence, with_all.log_evidence
    share = -math.expm1(min(own - every, 0.0)) if np.isfinite(own) and np.isfinite(every) else 0.0
    return share if share > 3.0 * np.hypot(own_se, error) else 0.0


def _averaged(
    pool: Pool, view: View, found: Sequence[Labelling], groups: Sequence[list[list[int]]]
) -> tuple[np.ndarray, np.ndarray]:
    """log q and log proposal of the pool, averaged over all orders within the groups."""
    size = math.prod(number_of(one) for one in groups)
    if size == 1 or size > MOST or view.densities is None:
        return pool.log_q, pool.log_proposal
    here = view.densities(view.values)
    sums = [np.asarray(density, float) for density in here]
    moves = [list(orders_within(one.size, own)) for one, own in zip(found, groups, strict=True)]
    for chosen in itertools.islice(itertools.product(*moves), 1, None):
        values = view.values
        for labelling, order in zip(found, chosen, strict=True):
            values = labelling.permuted(values, order)
        there = [np.where(np.isnan(density), -np.inf, density) for density in view.densities(values)]
        sums = [np.logaddexp(one, other) for one, other in zip(sums, there, strict=True)]
    with np.errstate(invalid="ignore"):
        gains = [np.nan_to_num(one - own) - math.log(size) for one, own in zip(sums, here, strict=True)]
    return pool.log_q + gains[0], pool.log_proposal + gains[1]
