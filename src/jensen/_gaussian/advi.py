"""Automatic differentiation variational inference with Gaussians: no learning rate or step count to choose."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import numpy as np

from jensen._ascent import stochastic
from jensen._base.errors import OptionError, nearest
from jensen._bounds import ELBO
from jensen._core import AbstractBound, AbstractEstimator, Certificate, Outcome
from jensen._core.algorithm import Run
from jensen._estimators import Pathwise, StickingTheLanding
from jensen._families import AbstractGaussian, FullRank, MeanField
from jensen._gaussian import fixed_draws, flexible, mode_coverage, natural_gaussian
from jensen._gaussian.batched_ascent import fit_by_rows, target_by_rows
from jensen._gaussian.chosen_family import (
    BY_STEPS,
    FLEXIBLE,
    Chosen,
    as_chosen,
    check_family,
    gaussian_of,
    in_words,
    is_flexible,
    start_of_blocks,
)
from jensen._gaussian.pathfinder import best_along
from jensen._math import linalg
from jensen._math.precision import Precision
from jensen._model import Target
from jensen._modes.climbs import Mode, Survey, climb, diagonal_gaussian, survey
from jensen._modes.continuous import AbstractContinuous

LARGE = 1000
"""Coordinates beyond which no D × D matrix is formed unless asked for."""


class ADVI(AbstractContinuous):
    """Gaussian q on the unconstrained space, maximising the ELBO. Kucukelbir et al. (2017).

    `mean_field`: fixed symmetric draws and trust-region Newton steps (Giordano et al. 2023), stopped by the Newton step
    in posterior-sd units; a second fit on twice as many independent draws must agree, or the draws double (up to
    `max_draws`); linear-response covariances come with it. `full_rank`: natural gradients on fresh symmetric draws.
    `low_rank`: path derivatives on fresh draws with averaged iterates; so `structured`, whose precision follows the
    posterior's own dependence graph: effects and their hyperparameters, states of a time series. `mixture`: Gaussian
    components, one at each mode found and others around them, their index summed out. `flow`: spline coupling layers
    around the full-rank Gaussian. `student_t`: full rank with heavier tails. These three by path derivatives on fresh
    draws.

    Args:
        family: "mean_field", "full_rank", "low_rank", "structured", "mixture", "flow" or "student_t"; a class of one's
            own (`jensen.extend.AbstractLocationScale`); or a mapping of sites, or tuples of sites, to families:
            independent blocks, each of its own family, the sites not named mean field.
            {("mu", "tau"): "flow", "theta": "full_rank"}.
        num_components: of the mixture, at least.
        num_draws: fixed draws (mean field) or draws per step (low rank); full rank uses max(64, 4D).
        max_draws: where doubling ends.
        rank: columns of the low-rank factor; default min(D, 10).
        num_starts: climbs from different starting points.
        engine: "deterministic" or "stochastic"; the latter uses fresh draws and Adam with averaged iterates for any
            family.
        batch_size: rows of `plate` (the largest one unless told otherwise) in each step, each standing for N / B; what
            is summed out is summed out row by row. The bound that a fit reports, and its checks, are on all rows.
        bound, estimator: what the stochastic engine maximises, and how it differentiates it: the ELBO by path
            derivatives, unless told otherwise (`jn.ImportanceWeighted(10)`, `jn.Pathwise(20)`).
    """

    name: ClassVar[str] = "advi"
    family: Chosen = eqx.field(static=True, default="mean_field", converter=as_chosen)
    num_components: int = eqx.field(static=True, default=4)
    num_draws: int = eqx.field(static=True, default=64)
    max_draws: int = eqx.field(static=True, default=1024)
    rank: int | None = eqx.field(static=True, default=None)
    num_starts: int = eqx.field(static=True, default=8)
    engine: Literal["deterministic", "stochastic"] = eqx.field(static=True, default="deterministic")
    bound: AbstractBound = ELBO()
    estimator: AbstractEstimator | None = None
    batch_size: int | None = eqx.field(static=True, default=None)
    plate: str | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        self._check_batches()
        chosen = not self.bound.linear or self.estimator is not None
        if chosen and self.engine == "deterministic" and self.family not in BY_STEPS:
            raise OptionError(
                "A bound or estimator of one's own needs fresh draws.",
                "Options: bound, estimator.",
                "Add engine='stochastic'.",
            )
        if self.estimator is not None and self.estimator.linear_only and not self.bound.linear:
            raise OptionError(
                f"{type(self.estimator).__name__} is biased for {type(self.bound).__name__}.",
                "Options: bound, estimator.",
                "Use jn.Pathwise.",
            )
        check_family(self.family)
        if self.family == "mixture" and self.num_components < 2:
            raise OptionError(
                "A mixture of one component is that component.",
                "Option: num_components of advi.",
                "Take at least 2, or family='full_rank'.",
            )
        if self.engine not in ("deterministic", "stochastic"):
            raise OptionError(
                f"advi has no engine '{self.engine}'.",
                "Option: engine.",
                nearest(str(self.engine), ("deterministic", "stochastic")),
            )
        if self.num_draws < 2 or self.num_draws % 2:
            raise OptionError(
                f"num_draws must be even and at least 2, got {self.num_draws}.",
                "Option: num_draws.",
                "Draws come in mirrored pairs.",
            )
        if self.rank is not None and self.rank < 1:
            raise OptionError(
                f"rank must be at least 1, got {self.rank}.", "Option: rank.", "Use family='mean_field' for rank 0."
            )

    def _check_batches(self) -> None:
        if self.plate is not None and self.batch_size is None:
            raise OptionError("plate says which rows batches are of.", "Option: plate of advi.", "Add batch_size=....")
        if self.batch_size is not None and (is_flexible(self.family) or not self.bound.linear):
            what = f"family='{in_words(self.family)}'" if is_flexible(self.family) else type(self.bound).__name__
            raise OptionError(
                f"{what} is not fitted by batches of rows.",
                "Option: batch_size of advi.",
                "Use family='mean_field', 'full_rank' or 'low_rank' with the ELBO, or leave batch_size out.",
            )

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> Target:
        """Latents, constrained or not, as one vector u ∈ R^D with the log density of T(u)."""
        if self.batch_size is None:
            return super().prepare(model, data, precision)
        return target_by_rows(model, data, self.batch_size, self.plate, precision)

    def run(self, target: Target, seed: int) -> Run:
        """Climb to a start, then fit the family."""
        if target.subsample is not None:
            return (
                yield from fit_by_rows(
                    target,
                    seed,
                    max(2, self.num_starts // 4),
                    self.bound,
                    self.estimator or self._default_estimator(),
                    lambda begin: gaussian_of(str(self.family), begin, target, self.rank, seed),
                    lambda part, mode, paths: starting_gaussian(part, mode, paths, seed),
                    LARGE,
                )
            )
        paths = yield from climb(target, seed, self.num_starts)
        restarts = tuple(path.best[1] for path in paths)
        if target.dim > LARGE and self.family != "full_rank" and not is_flexible(self.family):
            begin: AbstractGaussian = diagonal_gaussian(target, paths[0].best[0])
            certificate = Certificate()
        else:
            found = survey(target, paths, 12 if self.family == "mixture" else 4)
            begin, certificate = starting_gaussian(target, found.mode, paths, seed), found.certificate()
        if is_flexible(self.family):
            outcome = yield from self._flexible(target, begin, found, restarts, seed)
        elif self.engine == "stochastic" or self.family in BY_STEPS:
            outcome = yield from self._stochastic(
                target, gaussian_of(str(self.family), begin, target, self.rank, seed), restarts, seed
            )
        elif self.family == "mean_field":
            start = begin if isinstance(begin, MeanField) else fixed_draws.standard_start(begin)
            outcome = yield from fit_mean_field(target, start, seed, self.num_draws, self.max_draws, restarts)
        else:
            assert isinstance(begin, FullRank)
            outcome = yield from fit_full_rank(target, begin, seed, restarts)
        return dataclasses.replace(outcome, certificate=certificate | outcome.certificate)

    def _flexible(
        self, target: Target, begin: AbstractGaussian, found: Survey, restarts: tuple[float, ...], seed: int
    ) -> Run:
        """A flow or a mixture, around the full-rank Gaussian."""
        assert isinstance(begin, FullRank)
        fit = yield from natural_gaussian.ascend(target, begin, seed, max_steps=40 + 2 * target.dim)
        return (yield from fit_flexible(target, self.family, fit.q, found, self.num_components, seed, restarts))

    def _default_estimator(self) -> AbstractEstimator:
        if self.bound.linear:
            return StickingTheLanding(max(16, self.num_draws // 4))
        return Pathwise(self.bound.group * max(1, 16 // self.bound.group))

    def _stochastic(self, target: Target, family: AbstractGaussian, restarts: tuple[float, ...], seed: int) -> Run:
        fit = yield from stochastic.ascend(
            target,
            family,
            self.bound,
            self.estimator or self._default_estimator(),
            seed,
            phase=in_words(self.family).replace("_", " "),
        )
        return Outcome(
            fit.q,
            fit.converged,
            stochastic.describe(fit),
            Certificate(shift_in_sd=fit.shift, rejected_steps=float(fit.rejected)),
            restarts=restarts,
        )


def starting_gaussian(target: Target, mode: Mode, paths: list[Any], seed: int) -> FullRank:
    """The Gaussian at the mode, or the best along the climbs where the mode has no proper curvature."""
    if mode.regular:
        return mode.gaussian()
    found = [best_along(target, path, seed, 64, 10) for path in paths[:4]]
    q, bound = max(found, key=lambda pair: pair[1])
    return q if q is not None and np.isfinite(bound) else mode.gaussian()


def fit_mean_field(
    target: Target, start: MeanField, seed: int, num_draws: int, max_draws: int, restarts: tuple[float, ...] = ()
) -> Run:
    """Fixed-draws fits on num_draws, 2·num_draws, ... independent draws until two in a row agree within 0.1 sd."""
    fit = yield from fixed_draws.maximise(target, start, num_draws, seed)
    moved, widened = np.inf, np.inf
    while True:
        num_draws *= 2
        again = yield from fixed_draws.maximise(
            target, fit.q, num_draws, seed + num_draws, phase=f"replicate, {num_draws} draws"
        )
        moved = float(np.abs((np.asarray(again.q.loc) - np.asarray(fit.q.loc)) / again.q.scales()).max())
        widened = float(np.abs(np.asarray(again.q.log_scale) - np.asarray(fit.q.log_scale)).max())
        fit = again
        if max(moved, widened) < 0.1 or num_draws >= max_draws:
            break
    agree = max(moved, widened) < 0.1
    certificate = Certificate(
        decrement=fit.decrement,
        step_in_sd=fit.step_in_sd,
        replicate_in_sd=moved,
        replicate_log_sd=widened,
        num_draws=float(num_draws),
    )
    apart = max(moved, widened)
    if fit.converged and agree:
        step = f"The Newton step is {fit.step_in_sd:.1g} posterior sd"
        status = f"{step}, and a replicate on independent draws agrees to {apart:.2g}."
    else:
        step = f"Newton step {fit.step_in_sd:.2g} sd"
        status = f"{step}, replicate difference {apart:.2g} at {num_draws} draws: not certified."
    return Outcome(fit.q, fit.converged and agree, status, certificate, fit.covariance, restarts)


def fit_flexible(
    target: Target,
    family: Chosen,
    gaussian: FullRank,
    found: Survey,
    num_components: int,
    seed: int,
    restarts: tuple[float, ...] = (),
) -> Run:
    """A flow that begins at the Gaussian, or a mixture that begins at the modes, at the Gaussian if there is one."""
    around, modes, unseen = gaussian, (), 0.0
    if isinstance(family, tuple):
        start: Any = start_of_blocks(family, gaussian, target.structure, seed)
    elif family != "mixture":
        kind: Any = FLEXIBLE.get(str(family), family)
        start = kind.start(gaussian, seed)
    else:
        modes, unseen = mode_coverage.all_modes(target, found, seed)
        if len(modes) > 1:
            logs = np.array([mode.value + linalg.log_det_factor(mode.factor) for mode in modes])
            parts = [mode.gaussian() for mode in modes]
            num_components = max(num_components, len(parts))
        else:
            logs, parts = np.zeros(1), [gaussian]
        start = flexible.mixture_from(parts, logs, num_components, seed)
    fit = yield from flexible.ascend(target, start, around, seed, phase=in_words(family))
    status = (
        f"Averages at two successive step sizes agree to {fit.shift:.2g} posterior sd."
        if fit.converged
        else f"Stopped at the step limit; the last averages still differ by {fit.shift:.2g} posterior sd."
    )
    certificate = Certificate(shift_in_sd=fit.shift, rejected_steps=float(fit.rejected))
    if family == "mixture":
        certificate |= Certificate(unseen_modes=unseen) | mode_coverage.uncovered(target, fit.q, modes, seed)
    return Outcome(fit.q, fit.converged, status, certificate, restarts=restarts)


def fit_full_rank(target: Target, start: FullRank, seed: int, restarts: tuple[float, ...] = ()) -> Run:
    """Natural-gradient ascent from `start`."""
    fit = yield from natural_gaussian.ascend(target, start, seed, max_steps=40 + 2 * target.dim)
    status = natural_gaussian.describe(target, fit)
    certificate = Certificate(shift_in_sd=fit.shift, rollbacks=float(fit.rollbacks))
    return Outcome(fit.q, fit.converged, status, certificate, restarts=restarts)
