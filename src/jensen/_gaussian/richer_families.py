"""Families beyond the Gaussian, one after another while the last leaves a gap."""

from collections.abc import Generator

import numpy as np

from jensen._core import Certificate, Progress
from jensen._families import AbstractGaussian, Flow, FullRank
from jensen._gaussian import account, flexible, mode_coverage
from jensen._gaussian.family_comparison import Measured, measure
from jensen._gaussian.noncentring import named
from jensen._math import linalg
from jensen._model import Target
from jensen._modes.climbs import Survey

LEFT = 0.05
"""Gap of a family, in nats, from which on the next is tried."""
SHARE = 0.005
"""Evidence in other modes from which on a mixture over the modes is tried."""
UNSEEN = 0.3
"""Share of climbs that ended at modes of their own from which on there are too many to be told apart."""
CHUNKS, MOST = 4, 40
"""Looks at a mixture that it takes at least, and at most."""
LARGEST = 50
"""Unconstrained coordinates up to which they are tried."""


def has_other_modes(found: Survey | None) -> bool:
    """Whether the climbs ended at several modes with evidence of their own."""
    return found is not None and sum(mode.regular for mode in found.modes) > 1 and found.share_elsewhere > SHARE


def affordable(target: Target) -> bool:
    """Whether they may be tried at all."""
    return not target.dear and target.dim <= LARGEST


def mixtures(
    target: Target, gaussian: AbstractGaussian, found: Survey | None, seed: int, eager: bool = True
) -> Generator[Progress, None, tuple[list[Measured], Certificate]]:
    """A mixture over the modes, or around the only one, and one of more components: what was tried, and what is missed.

    Each is tried while the best so far leaves a gap of `LEFT`, and unless `eager` while there is time for `CHUNKS`
    until the fit has cost as much as NUTS. They come before a `flow`, which takes longer and reaches less on most
    curved posteriors. Where climbs keep ending at new modes a mixture over those that are known will not do.
    """
    if not affordable(target):
        return [], Certificate()
    start = _full(gaussian)
    several = has_other_modes(found)
    modes, unseen = mode_coverage.all_modes(target, found, seed) if several and found is not None else ((), 0.0)
    if unseen > UNSEEN:
        return [], Certificate(unseen_modes=unseen)
    parts, logs = [start], np.zeros(1)
    if several:
        logs = np.array([mode.value + linalg.log_det_factor(mode.factor) for mode in modes])
        parts = [mode.gaussian() for mode in modes]
    tried: list[Measured] = []
    wide = max(8, 2 * len(parts))
    for count in (len(parts), wide) if several else (wide,):
        name = f"mixture over {len(modes)} modes" if several and count == len(modes) else f"mixture of {count}"
        chunks = MOST if eager else int(min(MOST, account.left(target) / flexible.seconds(target, count)))
        if chunks < CHUNKS:
            break
        mixture = flexible.mixture_from(parts, logs, count, seed)
        fit = yield from flexible.ascend(target, mixture, start, seed, phase="mixture", max_chunks=chunks)
        missed = (
            Certificate(unseen_modes=unseen) | mode_coverage.uncovered(target, fit.q, modes, seed) if several else None
        )
        tried.append(measure(target, named(name, target), fit.q, seed, fit.converged, missed))
        if enough(tried):
            break
    return tried, Certificate()


def flow(target: Target, gaussian: AbstractGaussian, seed: int) -> Generator[Progress, None, list[Measured]]:
    """A flow that begins at the Gaussian."""
    start = _full(gaussian)
    fit = yield from flexible.ascend(target, Flow.start(start, seed), start, seed, phase="flow")
    return [measure(target, named("flow", target), fit.q, seed, fit.converged)]


def enough(tried: list[Measured]) -> bool:
    """Whether the best of what was tried leaves nothing that is worth another family."""
    return max(tried, key=lambda one: one.bound).gap < LEFT


def _full(gaussian: AbstractGaussian) -> FullRank:
    full = isinstance(gaussian, FullRank)
    return gaussian if full else FullRank.from_factor(np.asarray(gaussian.loc, float), gaussian.factor())
