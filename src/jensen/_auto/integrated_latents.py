"""A fit to θ with other latents integrated out: by what fits a density, with the error of the integrals seen to."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from jensen._core import Outcome, Progress
from jensen._families import AbstractGaussian, FullRank
from jensen._families.heavier import student_draws, student_log_prob
from jensen._gaussian.on_target import on_target
from jensen._gaussian.rotations import turned
from jensen._math import linalg
from jensen._math.precision import working
from jensen._math.surface import Surface
from jensen._modes.climbs import climb
from jensen._nested import EmulatedTarget, NestedTarget
from jensen._nested.emulation import Known, followed, located, varies

LITTLE, LOOKED_AT, TRIES = 0.25, 32, 2
"""Nats by which integrals may vary from one θ to another where q stays as it is and is judged by better ones; θ at
which that is measured; tries with more nodes."""
FEW, SOME, MOST, ASKED = 2, 4, 10, 10_000
"""Climbs before a surface stands for the density, where values are very dear and else; coordinates it may have; values
and gradients that a fit and its check ask for without one, at least."""
MENDED, OFF, FAR, DRAWS = 10, 0.05, 0.5, 8192
"""Fits on surfaces, each better than the last, at most; nats by which it may be off, and at the heaviest draws, of so
many. A round asks for about a dozen values; a fit to the density itself takes hundreds."""


Fit = Callable[[Any, int], Generator[Progress, None, Outcome]]


def fitted(target: NestedTarget, seed: int, fit: Fit) -> Generator[Progress, None, Outcome]:
    """`fit` of θ, again with better integrals where these owe much to where their nodes are."""
    return (yield from judged(target, seed, fit))[0]


def judged(target: NestedTarget, seed: int, fit: Fit) -> Generator[Progress, None, tuple[Outcome, str]]:
    """The same, and what speaks against the integrals, in sentences; none where they are sound."""
    target = yield from turned(target, seed)
    if target.shareable:
        target = target.shared((yield from climb(target, seed, 1))[0].best[0])
    count = LOOKED_AT // 4 if target.heavy else LOOKED_AT
    known = None
    if target.dear and target.dim <= MOST and target.price.seconds(ASKED) > Surface.seconds(target.dim):
        known = yield from on_target(target, located(target, seed, FEW if target.heavy else SOME))
    if known is not None:  # a surface follows the integrals that it is told: they are to be good ones
        error = target.error(known.draws(count, seed), known.value)
        if not error < target.allowed:
            target, known = _finer(target, known, error)
    error, limit = np.inf, 0.0
    for more in range(TRIES + 1):
        if not error < limit:
            outcome, points, known = yield from _fitted(target, known, count, seed, fit)
            limit = LITTLE if known is None else target.allowed
            own: Any = outcome.target if known is None else target  # in the coordinates of q
        error = own.error(points, None if known is None else known.value)
        if error < target.allowed or more == TRIES:
            break
        own = own.finer(error / target.allowed)
        target, known = _finer(target, known, error)
    names = ", ".join(f"'{site.name}'" for site in target.structure.conditional)
    doubts = own.doubts(points)
    if not error < target.allowed:
        doubts = f"The integrals over {names} are uncertain by {error:.2g} nats from place to place. {doubts}"
    status = f"{doubts or f'Given the other latents, {names} integrated out {target.how}.'} {outcome.status}"
    converged = outcome.converged and not doubts
    judge: Any = own if known is None else outcome.target
    return replace(outcome, target=judge.settled(), converged=converged, status=status), doubts


def _finer(target: NestedTarget, known: Known | None, error: float) -> tuple[NestedTarget, Known | None]:
    """Better integrals, and what is known of the density by them."""
    target = target.finer(error / target.allowed)
    return target, known and known.again(target)


def _fitted(
    target: NestedTarget, known: Known | None, count: int, seed: int, fit: Fit
) -> Generator[Progress, None, tuple[Outcome, np.ndarray, Known | None]]:
    """The fit, and draws of q; on a surface where that is cheaper and it is right there, else on the density itself."""
    right = known is not None and (yield from on_target(target, followed(known, seed)))
    for index in range(MENDED if right else 0):
        assert known is not None  # it is right
        if known.full():
            break
        seen = known.emulated()
        outcome = yield from on_target(seen, fit(seen, seed))
        points, near = _told(known, outcome.q, count, seed + 211 * index)  # of places that it has been told, nothing
        if near:
            return replace(outcome, target=seen), points, known
    outcome = yield from on_target(target, fit(target, seed))
    outcome = replace(outcome, target=target if outcome.target is None else outcome.target)
    return outcome, _points(target, outcome.q, count, seed), None


def _told(known: Known, q: Any, count: int, seed: int) -> tuple[np.ndarray, bool]:
    """Draws of q at which the surface is told the density, and whether it was right there and where they weigh most."""
    target, seen = known.target, known.emulated()
    points = _points(target, q, count, seed)
    both = np.concatenate([points, _heaviest(seen, q, seed, max(len(points) // 2, target.dim))])
    told = seen.value(both)
    apart = known.at(both)[0] - told
    own, middle = apart[: len(points)], float(np.median(apart[: len(points)]))
    near = varies(own, np.ones(len(own))) < OFF and abs(middle) < LITTLE
    return points, bool(near and np.abs(apart[len(points) :] - middle).max() < FAR)


def _heaviest(seen: EmulatedTarget, q: Any, seed: int, count: int) -> np.ndarray:
    """Draws of a Student-t about q that have the highest weights: where a surface that is too high shows."""
    own = _points(seen, q, DRAWS, seed + 1)
    near = FullRank.from_factor(own.mean(axis=0), linalg.cholesky(np.cov(own.T).reshape(seen.dim, seen.dim)))
    points = student_draws(near, DRAWS, seed)
    return points[np.argsort(student_log_prob(near, points) - seen.value(points))[:count]]


def _points(target: NestedTarget, q: Any, count: int, seed: int) -> np.ndarray:
    """Draws of q."""
    if isinstance(q, AbstractGaussian):
        return q.host_transform(np.random.default_rng([seed, 59]).normal(size=(count, q.noise_dim)))
    with working(target.precision):
        return q.host_draws(count, seed + 59)
