"""Beyond the Gaussian in the model's own coordinates: what a posterior seems to need, and whether it was worth it."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from jensen._core import Certificate, Outcome, Progress, Step, walk
from jensen._families import AbstractGaussian, FullRank, Mixture
from jensen._gaussian import account, noncentring, richer_families, trajectories
from jensen._gaussian.adaptive import adapted
from jensen._gaussian.family_comparison import Measured, measure
from jensen._gaussian.noncentring import Fit
from jensen._math import linalg
from jensen._math.precision import working
from jensen._model import Target
from jensen._modes.climbs import Survey
from jensen._nested.noncentred import movable

GAP, RICHER = 0.2, 0.3
"""Nats between the bound and the evidence from which on other coordinates are tried; below which q has converged."""
CHEAP, FEW, COMPONENTS, SMALL = 0.05, 20, 6, 8
"""Nats from which on a mixture by importance draws is tried, up to so many coordinates; its components, half of them
beyond `SMALL` coordinates."""

Walk = Generator[Progress, None, bool]

FRAME = 256
"""Draws for each coordinate that tell the covariance of a mixture."""


def escalate(
    target: Target, first: Outcome, found: Survey | None, seed: int, eager: bool, fit: Fit
) -> Generator[Progress, None, Outcome]:
    """The Gaussian `first`, or what is better, with what was tried among its stages.

    A gap between the bound and the evidence, as importance weights see it, asks for non-centred coordinates, where the
    model has sites for them: a Gaussian again, by `fit`. What is left of it above `GAP`, if `eager`, or several modes
    with evidence of their own, ask for richer families. They cost many times what the Gaussian did, so that another gap
    of more than `CHEAP` leaves mixtures to the verdict (`Outcome.further`). Something else than `first` is kept only
    where its bound on fresh draws is higher by more than twice the error of the difference.
    """
    gaussian = measure(target, "Gaussian", first.q, seed, first.converged)
    work = Work(target, first, found, seed, eager, fit, gaussian, gaussian, first)
    yield from walk(steps(target), work)
    return work.outcome


@dataclass
class Work:
    """What the steps work on: the Gaussian `first`, all that was `tried`, what is `kept`, a Gaussian `around` it."""

    target: Target
    first: Outcome
    found: Survey | None
    seed: int
    eager: bool
    fit: Fit
    gaussian: Measured
    kept: Measured
    outcome: Outcome
    tried: list[Measured] = field(default_factory=list)
    around: FullRank | None = None


def steps(target: Target) -> tuple[Step, ...]:
    """Other coordinates, a mixture by importance draws, and what the verdict may ask for."""
    return (
        Step("non-centred", partial(_of_non_centred, target), _non_centred),
        Step("importance draws", partial(_of_importance, target), _importance),
        Step("mixtures", partial(_of_mixtures, target), _later),
    )


def _of_non_centred(target: Target) -> tuple[str, ...]:
    moved = movable_sites(target)
    if not moved:
        return ()
    return (
        f"Where importance weights show a gap: a Gaussian with {', '.join(map(repr, moved))} non-centred, as far as "
        "the data leave the effects to their prior, kept if its bound is higher.",
    )


def movable_sites(target: Target) -> tuple[str, ...]:
    """Sites that may be taken non-centred."""
    if target.model.handled is None:
        return ()
    with working(target.precision):
        return movable(target.model.handled, target.structure)


def _non_centred(work: Work) -> Walk:
    if work.gaussian.gap > GAP:
        other, work.tried = yield from noncentring.attempt(work.target, work.first.q, work.seed, work.fit)
        if other is not None and other.measured.beats(work.gaussian):
            work.target, work.found, work.kept = other.target, other.found, other.measured
            work.outcome = replace(other.outcome, status=_gain(work.kept, work.gaussian, other.outcome.status))
    work.around = _full(work.outcome.q)
    return False


def _few(target: Target) -> bool:
    return target.dim <= FEW and not target.heavy


def _of_importance(target: Target) -> tuple[str, ...]:
    if not _few(target):
        return ()
    return (f"Where {CHEAP} nats are missing: a mixture of up to {COMPONENTS} Gaussians fitted to importance draws.",)


def _importance(work: Work) -> Walk:
    target, kept, outcome, around = work.target, work.kept, work.outcome, work.around
    assert around is not None  # by the first step
    if kept.gap > CHEAP and _few(target):
        yield Progress("importance draws", 0, kept.bound, outcome.q)
        count = COMPONENTS if target.dim <= SMALL else COMPONENTS // 2  # each scatter has d (d + 1) / 2 numbers
        values = account.left(target) / target.price.seconds(1, 0)
        mixture = adapted(target, around, count, work.seed, values)
        name = noncentring.named(f"mixture of {count} by importance draws", target)
        mixed = measure(target, name, mixture, work.seed)
        work.tried.append(mixed)
        if mixed.beats(kept) or mixed.covers(kept):
            status = _gain(mixed, work.gaussian, "")
            work.outcome = replace(outcome, q=mixture, converged=mixed.gap < RICHER, status=status)
            work.kept = mixed
    return False


def _of_mixtures(target: Target) -> tuple[str, ...]:
    if _mixtures_are_next(target):
        return ("Where the verdict would be untrusted: mixtures, kept if the bound is higher.",)
    if trajectories.affordable(target):
        return ("Where the verdict would be untrusted: draws of the Gaussian moved by Hamiltonian trajectories.",)
    return ()


def _mixtures_are_next(target: Target) -> bool:
    """Whether the verdict asks for mixtures first: in many coordinates they reach little that trajectories do not."""
    return richer_families.affordable(target) and (_few(target) or not trajectories.affordable(target))


def _later(work: Work) -> Walk:
    """What was tried is written down; mixtures at once, or where the verdict asks for them."""
    target, kept, around = work.target, work.kept, work.around
    assert around is not None  # by the first step
    in_vain = [one.name for one in work.tried if one is not kept]
    outcome = work.outcome
    if kept is work.gaussian and in_vain:
        outcome = replace(outcome, status=f"{outcome.status} Tried without gain: {', '.join(in_vain)}.")
    work.outcome = outcome = replace(outcome, stages=_stages(work.first, work.tried, kept))
    at_once = (work.eager and kept.gap > GAP) or richer_families.has_other_modes(work.found)
    beyond = partial(_mixtures, target, around, work.found, work.seed, kept, work.gaussian, work.eager)
    doubtful = kept.gap > CHEAP or kept is not work.gaussian  # a mixture of small gap can still miss a tail
    if at_once:
        work.outcome = yield from beyond(outcome)
    elif doubtful and _mixtures_are_next(target):
        work.outcome = replace(outcome, further=beyond)
    elif doubtful and trajectories.affordable(target):
        work.outcome = replace(outcome, further=partial(trajectories.moved, target, around, work.seed))
    return False


def _mixtures(
    target: Target,
    around: FullRank,
    found: Survey | None,
    seed: int,
    kept: Measured,
    first: Measured,
    eager: bool,
    outcome: Outcome,
) -> Generator[Progress, None, Outcome]:
    """The outcome, or that of a mixture; of a flow if `eager`: it costs more than NUTS where that goes everywhere."""
    more, missed = yield from richer_families.mixtures(target, around, found, seed, eager)
    outcome, kept = _best(outcome, more, kept, first)
    several = richer_families.has_other_modes(found)
    if several:
        return replace(outcome, certificate=outcome.certificate | missed)
    if not eager and trajectories.affordable(target):
        outcome = replace(outcome, further=partial(trajectories.moved, target, _frame(outcome.q, target, seed), seed))
    if not eager or not more or richer_families.enough(more):
        return outcome
    more = yield from richer_families.flow(target, around, seed)
    return _best(outcome, more, kept, first)[0]


def _best(outcome: Outcome, more: list[Measured], kept: Measured, first: Measured) -> tuple[Outcome, Measured]:
    """The outcome, or that of the best of more families, and how far it reaches."""
    best = max(more, key=lambda one: one.bound, default=kept)
    if not best.beats(kept):
        names = ", ".join(one.name for one in more)
        status = f"{outcome.status} Tried without gain: {names}." if names else outcome.status
        stages = (*outcome.stages, *(one.row(False) for one in more))
        return replace(outcome, status=status, stages=stages), kept
    known = outcome.certificate | (best.missed or Certificate())
    stages = (*({**row, "kept": False} for row in outcome.stages), *(one.row(one is best) for one in more))
    status = _gain(best, first, "")
    changed = {"q": best.q, "converged": best.converged, "certificate": known, "status": status, "stages": stages}
    return replace(outcome, **changed), best


def _full(q: AbstractGaussian) -> FullRank:
    return q if isinstance(q, FullRank) else FullRank.from_factor(np.asarray(q.loc, float), q.factor())


def _frame(q: AbstractGaussian | Mixture, target: Target, seed: int) -> FullRank:
    """A Gaussian of q's mean and covariance."""
    if isinstance(q, AbstractGaussian):
        return _full(q)
    points = q.host_draws(FRAME * target.dim, seed)
    return FullRank.from_factor(points.mean(axis=0), linalg.cholesky(np.cov(points.T)))


def _gain(kept: Measured, first: Measured, status: str) -> str:
    """What is kept and why; after it why its own fit stopped."""
    gain = f"{kept.bound - first.bound:.2g} nats above the first Gaussian's"
    return f"Kept: {kept.name}, whose bound is {gain}. {status}".strip()


def _stages(first: Outcome, tried: list[Measured], kept: Measured) -> tuple[dict[str, Any], ...]:
    """All that was tried, with one of them marked."""
    moved = any(one is kept for one in tried)
    before = [{**row, "kept": row["kept"] and not moved} for row in first.stages]
    return (*before, *(one.row(one is kept) for one in tried))
