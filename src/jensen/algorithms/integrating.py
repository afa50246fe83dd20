"""A fit to θ with other latents integrated out: by what fits a density, with the error of the integrals seen to."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from jensen.algorithms.flexible import draws
from jensen.algorithms.on_target import on_target
from jensen.core import Outcome, Progress
from jensen.families import AbstractGaussian
from jensen.math.precision import working
from jensen.models.nested import NestedTarget

ERROR, LITTLE, LOOKED_AT, TRIES = 0.05, 0.25, 32, 2
"""Nats by which integrals may vary from one θ to another, and below which q stays as it is and is judged by better
ones; θ at which that is measured; tries with more nodes."""


Fit = Callable[[Any, int], Generator[Progress, None, Outcome]]


def fitted(target: NestedTarget, seed: int, fit: Fit) -> Generator[Progress, None, Outcome]:
    """`fit` of θ, again with better integrals where these owe much to where their nodes are."""
    return (yield from judged(target, seed, fit))[0]


def judged(target: NestedTarget, seed: int, fit: Fit) -> Generator[Progress, None, tuple[Outcome, str]]:
    """The same, and what speaks against the integrals, in sentences; none where they are sound."""
    error = np.inf
    for more in range(TRIES + 1):
        if not error < LITTLE:
            outcome = yield from on_target(target, fit(target, seed))
            points = _points(target, outcome.q, seed)
        error = target.error(points)
        if error < ERROR or more == TRIES:
            break
        target = target.finer()
    names = ", ".join(f"'{site.name}'" for site in target.structure.conditional)
    doubts = target.doubts(points)
    if not error < ERROR:
        doubts = f"The integrals over {names} are uncertain by {error:.2g} nats from place to place. {doubts}"
    status = f"{doubts or f'Given the other latents, {names} integrated out {target.how}.'} {outcome.status}"
    converged = outcome.converged and not doubts
    return replace(outcome, target=target.settled(), converged=converged, status=status), doubts


def _points(target: NestedTarget, q: Any, seed: int) -> np.ndarray:
    if isinstance(q, AbstractGaussian):
        return q.host_transform(np.random.default_rng([seed, 59]).normal(size=(LOOKED_AT, q.noise_dim)))
    with working(target.precision):
        return draws(q, LOOKED_AT, seed + 59)
