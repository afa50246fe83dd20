"""The Gaussian of the default, step by step: climbs, the curvature at the mode, families of rising richness."""

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from jensen._ascent import stochastic
from jensen._auto.stages import Stage, choose, compare
from jensen._bounds import ELBO
from jensen._core import Certificate, Outcome, Progress, Step
from jensen._estimators import StickingTheLanding
from jensen._families import FullRank, LowRank
from jensen._gaussian import account, natural_gaussian
from jensen._gaussian.advi import starting_gaussian
from jensen._gaussian.escalation import GAP
from jensen._model import Target
from jensen._modes.climbs import Survey, climb, diagonal_gaussian, survey

DENSE, DENSE_STEPS = 600, 100
"""Coordinates up to which a full covariance is tried after what is cheaper, and its natural-gradient steps."""

Walk = Generator[Progress, None, bool]


class Options(Protocol):
    """The options of `auto` that matter here."""

    @property
    def num_starts(self) -> int: ...

    @property
    def dense_limit(self) -> int: ...

    @property
    def rank(self) -> int: ...

    @property
    def escalate(self) -> bool | str: ...


@dataclass
class Work:
    """What the steps work on: the climbs, the first of which may begin `near` a point, and the families tried."""

    target: Target
    seed: int
    near: np.ndarray | None = None
    paths: Any = ()
    found: Survey | None = None
    start: Any = None
    stages: list[Stage] = field(default_factory=list)
    fits: list[Any] = field(default_factory=list)
    outcome: Outcome | None = None


def gaussian_steps(
    options: Options, target: Target, few: bool = False, initial: bool | None = None
) -> tuple[Step, ...]:
    """Climbs, from a `few` places or more, and Gaussians that begin there; `initial`: whether the user gave a start."""
    starts = max(2, options.num_starts // 4) if target.heavy or few else options.num_starts
    told = target.initial is not None if initial is None else initial
    large = target.dim > options.dense_limit
    climbs = Step("climbs", partial(_of_climbs, target, starts, told), partial(_climbs, starts, large))
    looked_at = 8 if options.escalate is True else 4
    limit = f"D = {target.dim} is within {options.dense_limit}, so dense {target.dim} × {target.dim} matrices are cheap"
    if not large:
        return (
            climbs,
            Step("curvature", partial(_of_curvature, limit), partial(_curvature, looked_at)),
            Step("full rank", partial(_of_full_rank, target.dim), _full_rank),
        )
    rank = min(options.rank, target.dim)
    return (
        climbs,
        Step("mean field", partial(_of_mean_field, target.dim, options.dense_limit), _mean_field),
        Step("low rank", partial(_of_low_rank, rank), partial(_low_rank, rank)),
        Step("all covariances", partial(_of_dense, target, options), partial(_dense, bool(options.escalate))),
    )


def _of_climbs(target: Target, starts: int, told: bool) -> tuple[str, ...]:
    climbs = f"{starts} climbs of the log density from different starts"
    climbs += ", the first at the initial values given" if told else ""
    few = "few, because the data are large and every evaluation costs."
    together = "the data are small, so all climb together at little more than the cost of one."
    return (f"{climbs}: {few}" if target.heavy else f"{climbs}; {together}",)


def _climbs(starts: int, large: bool, work: Work) -> Walk:
    target = work.target
    if large:
        account.announce(account.of_gradients(target), target, f"of {target.dim:,} coordinates")
    work.paths = yield from climb(target, work.seed, starts, first=None if large else work.near)
    return False


def _of_curvature(limit: str) -> tuple[str, ...]:
    return (
        "The curvature at the highest mode, as a Gaussian start; other modes are reported by their share of the "
        f"evidence ({limit}).",
    )


def _curvature(looked_at: int, work: Work) -> Walk:
    """Other modes, and the Gaussian at the highest; of much data it may be all there is to say."""
    target, seed, paths = work.target, work.seed, work.paths
    work.found = found = survey(target, paths, looked_at)
    mode = found.mode
    work.start = start = starting_gaussian(target, mode, paths, seed)
    if target.heavy and mode.regular:
        yield Progress("mode", 0, mode.value, start)
        polished, spread = natural_gaussian.shift_mean(target, start, seed)
        if spread < 0.1:
            status = (
                f"The posterior is Gaussian to within {0.5 * spread**2:.1g} nats at the mode, so the curvature "
                "there was kept and the mean corrected by one natural-gradient step."
            )
            certificate = Certificate(shift_in_sd=spread) | found.certificate()
            work.outcome = Outcome(polished, True, status, certificate, None, tuple(p.best[1] for p in paths))
            return True
    work.stages = [Stage("curvature at the mode" if mode.regular else "best Gaussian along the climbs", start)]
    yield Progress("curvature", 1, compare(target, work.stages, seed), start)
    return False


def _of_full_rank(dim: int) -> tuple[str, ...]:
    return (
        f"A full-rank Gaussian by natural gradients, {natural_gaussian.draws_per_step(dim)} fresh symmetric draws a "
        "step, kept if its bound on common draws is higher.",
    )


def _full_rank(work: Work) -> Walk:
    target, stages, found = work.target, work.stages, work.found
    assert found is not None  # by the step before
    fit = yield from natural_gaussian.ascend(target, work.start, work.seed, max_steps=40 + 2 * target.dim)
    stages.append(Stage("full rank", fit.q, fit.converged))
    bound = compare(target, stages, work.seed)
    best = stages[choose(stages)]
    yield Progress("comparing families", 0, bound, best.q)
    converged = fit.converged if best.q is fit.q else found.mode.regular and found.mode.decrement < 1e-4
    why = natural_gaussian.describe(target, fit) if best.q is fit.q or not fit.converged else ""
    certificate = Certificate(shift_in_sd=fit.shift, rollbacks=float(fit.rollbacks)) | found.certificate()
    work.outcome = _outcome(work, best, converged, why, certificate)
    return False


def _of_mean_field(dim: int, limit: int) -> tuple[str, ...]:
    return (
        f"A mean-field Gaussian on fresh draws: D = {dim} is above {limit}, where {dim} × {dim} covariances become "
        "too dear.",
    )


def _mean_field(work: Work) -> Walk:
    begin = diagonal_gaussian(work.target, work.paths[0].best[0])
    yield from _ascended(work, "mean field", begin, work.seed)
    return False


def _of_low_rank(rank: int) -> tuple[str, ...]:
    return (
        f"Then a low-rank Gaussian (rank {rank}), kept only if its bound on common draws is higher by more than the "
        "noise.",
    )


def _low_rank(rank: int, work: Work) -> Walk:
    wide = LowRank.around(work.fits[0].q, rank, work.seed)
    yield from _ascended(work, "low rank", wide, work.seed + 1)
    return False


def _ascended(work: Work, name: str, begin: Any, seed: int) -> Generator[Progress, None, None]:
    fit = yield from stochastic.ascend(work.target, begin, ELBO(), StickingTheLanding(8), seed, phase=name)
    work.fits.append(fit)
    work.stages.append(Stage(name, fit.q, fit.converged))


def _of_dense(target: Target, options: Options) -> tuple[str, ...]:
    if not (options.escalate and target.dim <= DENSE):
        return ()
    return (
        f"Where these leave {GAP} nats: all covariances by natural gradients, {DENSE_STEPS} steps at most, as D is "
        f"within {DENSE}.",
    )


def _dense(wanted: bool, work: Work) -> Walk:
    """All covariances where the others leave much and matrices can be afforded, and what is best of all."""
    target, stages, fits, seed = work.target, work.stages, work.fits, work.seed
    bound = compare(target, stages, seed)
    begin = max(stages, key=lambda stage: stage.bound)
    if wanted and target.dim <= DENSE and not begin.gap() < GAP:
        # Data that say much in many directions take variance away; mean field and low rank can only add it.
        dense = FullRank.from_factor(np.asarray(begin.q.loc, float), begin.q.factor())
        fits.append((yield from natural_gaussian.ascend(target, dense, seed, max_steps=DENSE_STEPS)))
        stages.append(Stage("full rank", fits[2].q, fits[2].converged))
        bound = compare(target, stages, seed)
    chosen = choose(stages)
    best, fit = stages[chosen], fits[chosen]
    yield Progress("comparing families", 0, bound, best.q)
    how = natural_gaussian.describe(target, fit) if chosen == 2 else stochastic.describe(fit)
    rejected = float(sum(one.rejected for one in fits[:2]))
    certificate = Certificate(shift_in_sd=fit.shift, rejected_steps=rejected)
    work.outcome = _outcome(work, best, fit.converged, how, certificate)
    return False


def _outcome(work: Work, best: Stage, converged: bool, how: str, certificate: Certificate) -> Outcome:
    status = f"The {best.name} Gaussian was kept. {how}".strip()
    restarts = tuple(path.best[1] for path in work.paths)
    rows = tuple(stage.row() for stage in work.stages)
    return Outcome(best.q, converged, status, certificate, None, restarts, rows)
