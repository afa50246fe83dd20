"""From a fit to one by Markov chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jensen._base.errors import UndefinedError
from jensen._core import Progress
from jensen._families.chains import gaussian_of
from jensen._fit.loop import drive
from jensen._fit.progress import reporter
from jensen._gaussian.nuts import Beginning, Refinement
from jensen._math.clock import Stopwatch
from jensen._math.precision import working

if TYPE_CHECKING:
    from jensen._fit.result import Fit

MOST = 4000
"""Draws whose moments give the coordinates."""


def refined(fit: Fit, options: Refinement, seed: int, progress: bool | Callable[[Progress], None] | None) -> Fit:
    """The fit by `options` that begins where `fit` ends."""
    watch = Stopwatch()
    answer = fit._attached("refinement")
    pool = fit.pool
    where = answer.unconstrained(pool, fit._pool_draws, always=True)
    if where is None:
        raise UndefinedError(
            "This fit has no density over unconstrained coordinates for NUTS to go on with.",
            f"Method '{fit.method}', {type(answer).__name__.removesuffix('Answer').lower()} approximation.",
            "Fit with method='auto' on all rows at once, with discrete latents that can be summed out.",
        )
    target, points, _ = where
    believable = np.isfinite(pool.khat) and pool.khat < 1.0 and pool.ess > 2 * target.dim
    rows = pool.resample(MOST, seed) if believable else np.arange(min(pool.half, MOST))
    start = Beginning(target, gaussian_of(points[rows]), points[rows])
    with reporter(progress, options.name) as report, working(target.precision):
        outcome, history = drive(options, start, seed, report, watch)
    outcome = replace(outcome, estimates=fit.outcome.estimates)
    return type(fit).from_outcome(outcome, target, options, seed, history, watch)
