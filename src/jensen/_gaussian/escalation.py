"""Beyond the Gaussian in the model's own coordinates: what a posterior seems to need, and whether it was worth it."""

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jensen._core import Certificate, Outcome, Progress
from jensen._families import AbstractGaussian, FullRank, Mixture
from jensen._gaussian import noncentring, richer_families, trajectories
from jensen._gaussian.adaptive import adapted
from jensen._gaussian.family_comparison import Measured, measure
from jensen._gaussian.noncentring import Fit
from jensen._math import linalg
from jensen._model import Target
from jensen._modes.climbs import Survey

GAP, RICHER = 0.2, 0.3
"""Nats between the bound and the evidence from which on other coordinates are tried; below which q has converged."""
CHEAP, FEW, COMPONENTS, SMALL = 0.05, 20, 6, 8
"""Nats from which on a mixture by importance draws is tried, up to so many coordinates; its components, half of them
beyond `SMALL` coordinates."""

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
    gaussian, tried = measure(target, "Gaussian", first.q, seed, first.converged), []
    kept, outcome = gaussian, first
    if gaussian.gap > GAP:
        other, tried = yield from noncentring.attempt(target, first.q, seed, fit)
        if other is not None and other.measured.beats(gaussian):
            target, outcome, found, kept = other.target, other.outcome, other.found, other.measured
            outcome = replace(outcome, status=_gain(kept, gaussian, outcome.status))
    around = _full(outcome.q)
    if kept.gap > CHEAP and target.dim <= FEW and not target.heavy:
        yield Progress("importance draws", 0, kept.bound, outcome.q)
        count = COMPONENTS if target.dim <= SMALL else COMPONENTS // 2  # each scatter has d (d + 1) / 2 numbers
        mixture = adapted(target, around, count, seed)
        name = noncentring.named(f"mixture of {count} by importance draws", target)
        mixed = measure(target, name, mixture, seed)
        tried.append(mixed)
        if mixed.beats(kept) or mixed.covers(kept):
            outcome = replace(outcome, q=mixture, converged=mixed.gap < RICHER, status=_gain(mixed, gaussian, ""))
            kept = mixed
    in_vain = [one.name for one in tried if one is not kept]
    if kept is gaussian and in_vain:
        outcome = replace(outcome, status=f"{outcome.status} Tried without gain: {', '.join(in_vain)}.")
    outcome = replace(outcome, stages=_stages(first, tried, kept))
    at_once = (eager and kept.gap > GAP) or richer_families.has_other_modes(found)
    beyond = partial(_mixtures, target, around, found, seed, kept, gaussian, eager)
    if at_once:
        return (yield from beyond(outcome))
    if not kept.gap > CHEAP:
        return outcome
    if richer_families.affordable(target):
        return replace(outcome, further=beyond)
    return (
        replace(outcome, further=partial(trajectories.moved, target, around, seed))
        if trajectories.affordable(target)
        else outcome
    )


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
