"""Gaussians by batches of rows: a start from one batch, then path derivatives on fresh batches."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jensen._ascent import stochastic
from jensen._base.errors import OptionError
from jensen._core import AbstractBound, AbstractEstimator, Certificate, Outcome
from jensen._core.algorithm import Run
from jensen._families import AbstractGaussian
from jensen._math.precision import Precision, float_type, working
from jensen._model import Target, build
from jensen._model.subsample import subsampled
from jensen._modes.climbs import climb, diagonal_gaussian, survey

CHUNK = 2000
"""Steps between two looks at the bound, at most."""


def target_by_rows(
    model: Any, data: Mapping[str, Any] | None, batch_size: int, plate: str | None, precision: Precision
) -> Target:
    """The density of all rows, with its batches; every continuous latent must be outside the plate."""
    target = build(model, data, precision)
    with working(precision):
        point = np.random.default_rng(0).normal(size=target.dim).astype(float_type(precision))
        latent = target.latent(0.5 * point)
    target.subsample = subsampled(model, data, target, latent, batch_size, plate, discrete=False)
    if target.subsample.model.axes:
        name = target.subsample.model.axes[0][0]
        raise OptionError(
            f"'{name}' has a coordinate for each row of the plate '{target.subsample.plate}', which one Gaussian over "
            "all of them would have to hold.",
            "Option: batch_size of advi.",
            "Use jn.bbvi(batch_size=...), which keeps a factor for each row and moves those of the batch.",
        )
    return target


def fit_by_rows(
    target: Target,
    seed: int,
    num_starts: int,
    bound: AbstractBound,
    estimator: AbstractEstimator,
    family: Callable[[AbstractGaussian], AbstractGaussian],
    begin: Callable[[Target, Any, list[Any]], AbstractGaussian],
    dense: int,
) -> Run:
    """Climb and look at the curvature on one batch that stands for all rows; then ascend on fresh batches.

    `begin` makes the Gaussian at a mode, `family` the family asked for from it; up to `dense` coordinates.
    """
    part = Target(target.subsample.fixed(seed), target.structure, target.precision)
    paths = yield from climb(part, seed, num_starts)
    if target.dim > dense:
        start: AbstractGaussian = diagonal_gaussian(part, paths[0].best[0])
    else:
        start = begin(part, survey(part, paths, 4).mode, paths)
    epoch = target.subsample.epoch
    fit = yield from stochastic.ascend(
        target,
        family(start),
        bound,
        estimator,
        seed,
        chunk=int(np.clip(4 * epoch, 200, CHUNK)),
        phase="batches of rows",
    )
    target.gradients += part.gradients
    how = f"Steps were on batches of {target.subsample.batch_size} of {target.subsample.size} rows."
    status = f"{stochastic.describe(fit)} {how}"
    certificate = Certificate(shift_in_sd=fit.shift, rejected_steps=float(fit.rejected))
    return Outcome(fit.q, fit.converged, status, certificate)
