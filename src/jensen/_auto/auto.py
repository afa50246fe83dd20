"""The default: coordinate ascent where the model allows it, else the richest Gaussian that the bound supports."""

import dataclasses
from collections.abc import Generator
from functools import partial
from typing import Any, ClassVar, Literal

import equinox as eqx
import numpy as np

from jensen._auto import dependent_factors, integrated_latents
from jensen._auto.gaussian_steps import Work, gaussian_steps
from jensen._auto.stages import Stage, compare, measured
from jensen._auto.target import FEW, FIELD, MANY, SMALL_FIELD, SOME, AutoTarget, field_of, prepared
from jensen._base.errors import OptionError
from jensen._blackbox.bbvi import BBVI
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate import gibbs
from jensen._conjugate.coordinate.weighing import gap
from jensen._conjugate.svi import SVI
from jensen._core import AbstractAlgorithm, Certificate, Outcome, Progress, Step, walk
from jensen._core.algorithm import Run
from jensen._families import FullRank
from jensen._gaussian import account, natural_gaussian, richer_families, start_from_factors
from jensen._gaussian import escalation as escalate
from jensen._gaussian.collapsing import collapsed
from jensen._gaussian.family_comparison import WILD, Measured
from jensen._gaussian.on_target import on_target
from jensen._math.precision import Precision
from jensen._model import Target
from jensen._model.one_rotation import turns_of
from jensen._modes.climbs import Survey
from jensen._nested import FieldTarget, generic

NEGLIGIBLE = 0.05
"""Nats between bound and evidence that are not worth another family."""

Walk = Generator[Progress, None, bool]


@dataclasses.dataclass
class Fitting:
    """What the steps work on: the factors of coordinate ascent, if there are any, and the outcome so far."""

    target: AutoTarget
    seed: int
    factors: Outcome | None = None
    outcome: Outcome | None = None


class Auto(AbstractAlgorithm):
    """Coordinate ascent where every block of the model is conjugate; else, and against it, Gaussians.

    With many latents or rows the factors of coordinate ascent are kept. Where continuous latents are few, the Gaussian
    of the next paragraph is fitted as well, discrete ones summed out, unless the factors' bound is the evidence to
    within 0.05 nats as importance weights see it (0.2, where discrete latents are summed over much), and the higher
    bound is kept. Its first start is then the optimum of the ascent, and the only one where an evaluation is dear.

    Where blocks leave the model in closed form and few continuous latents are left of more than `dense_limit`, or these
    are loadings that rotations leave as they are, the Gaussian is one of what is left, in one rotation.

    Where the verdict on either would be untrusted, the factors' draws are moved by Gibbs sweeps, whose conditionals are
    the ascent's own updates, for as long as these cost some seconds; kept where the chains mix.

    Several climbs, the curvature at the best mode, then Gaussians of rising richness while the bound really rises.

    Up to `dense_limit` unconstrained coordinates: the Gaussian at the mode, then the full-rank Gaussian, which contains
    the mean-field and low-rank ones. Beyond: mean field, then low rank, both on fresh draws. Families are compared by
    the ELBO on common fresh draws; a richer one is kept only when it gains more than twice the standard error of the
    difference. Other modes are looked at, and reported by their share of the evidence. Where the fresh draws show that
    this is not enough, `escalate` says what is tried; `Fit.status` and `Fit.outcome.stages` what was.

    Data that come in batches (`jn.Batches`, `jn.Ragged`) are for `svi` with its defaults.

    Discrete latents that can be neither summed out nor updated by coordinate ascent (counts without an upper end, too
    many joint states), and densities outside JAX, are for black-box VI: `bbvi` with its defaults; and where importance
    weights show that discrete latents depend on each other, `hvm` is tried.

    Args:
        num_starts: climbs from different starting points (a quarter of them where the data are large).
        dense_limit: largest number of coordinates with a full-rank covariance.
        rank: columns of the low-rank factor beyond that.
        integrate: whether latents that fall into small groups, independent given few others, are integrated out for
            every value of these (`jn.nested`), from 10 latents on; and 30 or more along a chain or over a map that are
            nearly Gaussian given the others.
        finish: whether to go on with NUTS (`Fit.refine`) where the verdict is untrusted.
        escalate: whether to go beyond the Gaussian in the model's own coordinates where its importance weights show a
            gap of 0.2 nats: to non-centred effects (sites whose scale is itself a latent), then, up to 50 coordinates,
            to mixtures, which take longer. "needed", the default: those only where the verdict would be untrusted, or
            other modes hold evidence; True: for 0.2 nats that are left, and then flows too, which take as long as NUTS
            (`Fit.refine`) where that goes everywhere; False: none of it. From a product
            of factors with discrete latents to hierarchical models, up to 64 parameters unless True.
    """

    name: ClassVar[str] = "auto"
    streams: ClassVar[bool] = True
    num_starts: int = eqx.field(static=True, default=8)
    dense_limit: int = eqx.field(static=True, default=300)
    rank: int = eqx.field(static=True, default=20)
    integrate: bool = eqx.field(static=True, default=True)
    finish: bool = eqx.field(static=True, default=False)
    escalate: bool | Literal["needed"] = eqx.field(static=True, default="needed")

    @property
    def goes_on(self) -> bool:
        """Where it is to."""
        return self.finish

    def __check_init__(self) -> None:
        if self.escalate not in (True, False, "needed"):
            raise OptionError(
                f"escalate must be True, False or 'needed', got {self.escalate!r}.", "Option: escalate of auto."
            )

    def prepare(self, model: Any, data: Any, precision: Precision) -> AutoTarget:
        """Every analysis of the model that applies."""
        return prepared(model, data, precision, self.integrate)

    def run(self, target: AutoTarget, seed: int) -> Run:
        """Coordinate ascent, Gaussians, or both: the steps, one after another."""
        fit = Fitting(target, seed)
        yield from walk(self.steps(target), fit)
        assert fit.outcome is not None  # each of the ways gives one
        return fit.outcome

    def steps(self, target: AutoTarget, blocks: int | None = None, initial: bool | None = None) -> tuple[Step, ...]:
        """What is done, in its order: what `jn.explain` prints and `run` takes.

        `blocks` are those of coordinate ascent, if `target` does not hold them; `initial` says whether the user gave
        values to start at, if the density does not.
        """
        density, found = target.density, target.conjugate
        count = len(found.model.blocks) if found is not None and blocks is None else blocks or 0
        if target.stream is not None:
            return (Step("batches", nothing, _batches),)
        if target.native is not None:
            return (Step("black-box VI", partial(_of_black_box, target.why), self._black_box),)
        parts = () if density is None else (*gaussian_steps(self, density, initial=initial), *escalate.steps(density))
        if not count:
            assert density is not None  # one of the ways always exists
            return (
                Step("latents integrated out", partial(_of_nested, density), self._integrated),
                Step("Gaussian", nothing, self._density, parts),
            )
        ascent = Step("coordinate ascent", partial(_of_ascent, density is None), _ascended)
        if count == 1:
            return (ascent,)
        compared = density is not None and density.dim <= self.dense_limit
        beside = Step("or a Gaussian", _of_comparison if compared else nothing, self._beside, parts if compared else ())
        return (ascent, beside, Step("Gibbs sweeps", nothing, self._sweeps))

    def _black_box(self, fit: "Fitting") -> Walk:
        native = fit.target.native
        assert native is not None  # or the step would not be there
        outcome = yield from BBVI().run(native, fit.seed)
        if self.escalate:
            outcome = yield from dependent_factors.escalate(native, outcome, fit.seed, self.escalate is True)
        fit.outcome = dataclasses.replace(outcome, status=f"{fit.target.why} Black-box VI: {outcome.status}")
        return True

    def _integrated(self, fit: "Fitting") -> Walk:
        if not (fit.target.nested or fit.target.why):
            return False
        fit.outcome = yield from self._nested(fit.target, fit.seed)
        return True

    def _density(self, fit: "Fitting") -> Walk:
        density = fit.target.density
        assert density is not None  # or the step would not be there
        fit.outcome = outcome = yield from self.gaussian(density, fit.seed)
        if outcome.further and self.integrate:
            further = partial(self._small_field, density, fit.seed, outcome.further)
            fit.outcome = dataclasses.replace(outcome, further=further)
        return True

    def _beside(self, fit: "Fitting") -> Walk:
        assert fit.factors is not None  # by the step before
        fit.outcome = yield from self._or_more(fit.target, fit.factors, fit.seed)
        return False

    def _sweeps(self, fit: "Fitting") -> Walk:
        yield from ()
        found, factors, outcome = fit.target.conjugate, fit.factors, fit.outcome
        assert found is not None  # by the steps before
        assert factors is not None
        assert outcome is not None
        if self.escalate and not found.heavy and gibbs.affordable(factors.q):
            further = partial(_swept, fit.seed, factors, outcome.further)
            fit.outcome = dataclasses.replace(outcome, further=further)
        return True

    def _or_more(self, target: AutoTarget, factors: Outcome, seed: int) -> Run:
        """The factors, or a Gaussian of all continuous latents, or of those that are left of them."""
        density = target.density
        assert target.conjugate is not None  # it gave the factors
        if density is None or target.conjugate.heavy:
            return _kept(factors)
        less = None if density.structure.summed else collapsed(density, factors, self.dense_limit)
        if less is not None:
            return (yield from self._or_collapsed(*less, factors, seed))
        if density.dim > self.dense_limit:
            return _kept(factors)
        return (yield from self._or_gaussian(density, factors, seed))

    def _or_collapsed(self, density: Target, near: np.ndarray, factors: Outcome, seed: int) -> Run:
        """The factors, or a Gaussian of the latents that are left when others are integrated out.

        Several modes there (signs and orders of loadings) are those of a symmetry that is not known: mixtures over all
        of them take many times as long as the factors, which describe one.
        """
        exact = factors.certificate["elbo"]
        one_of_all = bool(turns_of(density))  # else climbs from many places see the signs and orders of loadings
        first, found = yield from on_target(density, self._gaussian(density, seed, near, few=one_of_all))
        bound, error, _ = measured(density, first.q, seed)
        if richer_families.has_other_modes(found) or not bound > exact + 2.0 * error:
            tried = {"family": "Gaussian, others integrated out", "elbo": bound, "se": error, "kept": False}
            return _kept(factors, tried)
        outcome = yield from on_target(density, self._beyond(density, first, found, seed))
        own = {**_kept(factors).stages[0], "kept": False}
        names = ", ".join(f"'{site.name}'" for site in density.structure.conditional)
        status = f"Given the other latents, {names} integrated out exactly. {outcome.status}"
        target = density if outcome.target is None else outcome.target
        return dataclasses.replace(outcome, target=target, status=status, stages=(own, *outcome.stages))

    def _or_gaussian(self, density: Target, factors: Outcome, seed: int) -> Run:
        """The factors, or what is fitted to the density where its bound is higher.

        With discrete latents the first start is where the ascent has found the mass. It is the only one where an
        evaluation is dear: what there is elsewhere, the ascent's other starts say.
        """
        exact = factors.certificate["elbo"]
        summed, dear = bool(density.structure.summed), density.dear
        steps = start_from_factors.steps_for(
            density, natural_gaussian.draws_per_step(density.dim), 40 + 2 * density.dim
        )
        if dear and summed and not steps:
            return _kept(factors)
        known = gap(factors.q, exact) if dear or not summed else None
        if known and known[0] + 2.0 * known[1] < (escalate.GAP if dear and summed else NEGLIGIBLE):
            return _kept(factors)
        if dear and summed:
            begin = start_from_factors.gaussian_near(density, factors)
            if begin is None:
                return _kept(factors)
            first, found = (yield from self._around(density, begin, factors, seed, steps)), None
        else:
            near = start_from_factors.point_near(density, factors) if summed else None
            first, found = yield from self._gaussian(density, seed, near)
        bound, error, spread = measured(density, first.q, seed)
        better = bound > exact + 2.0 * error
        if better and spread > WILD:  # a bound of such weights may be wrong
            missing, doubt = known or gap(factors.q, exact)
            there = Measured("Gaussian", first.q, bound, error, np.inf, spread=spread)
            better = not there.contradicted(exact + missing + 2.0 * doubt, 0.0)
        beyond = partial(self._past, density, first, found, factors, seed)
        if not better:
            kept = _kept(factors, {"family": "Gaussian", "elbo": bound, "se": error, "kept": False})
            return dataclasses.replace(kept, further=beyond if self.escalate and first.stages else None)
        return (yield from beyond(factors))

    def _past(
        self, density: Target, first: Outcome, found: Survey | None, factors: Outcome, seed: int, outcome: Outcome
    ) -> Run:
        """What goes beyond the Gaussian `first`; the `outcome` at hand where that is no better than the factors."""
        past = yield from self._beyond(density, first, found, seed)
        if outcome is not factors:  # whose target another fit has by now
            best = next(row for row in past.stages if row["kept"])
            if not best["elbo"] > factors.certificate["elbo"] + 2.0 * best["se"]:
                return outcome
            past = dataclasses.replace(past, target=density if past.target is None else past.target)
        rows = (dict(row, kept=False) for row in (outcome.stages or _kept(factors).stages))
        return dataclasses.replace(past, stages=(*rows, *past.stages))

    def _nested(self, target: AutoTarget, seed: int) -> Run:
        """With latents integrated out; with all of them, where they are a field that is far from Gaussian."""
        said = target.why
        assert target.density is not None  # of which it is a part
        for nested in target.nested:
            count = sum(site.size for site in nested.structure.conditional)
            account.announce(account.of_field(nested), nested, f"with {count:,} latents integrated out")
            why = nested.shape(generic(seed, nested.looks, nested.dim)) if isinstance(nested, FieldTarget) else ""
            if not why:
                outcome, why = yield from integrated_latents.judged(nested, seed, self.gaussian)
                if not (why and isinstance(nested, FieldTarget)):
                    return outcome
            said = why
        outcome = yield from self.gaussian(target.density, seed)
        return dataclasses.replace(outcome, status=f"{said.strip()} So nothing was integrated out. {outcome.status}")

    def _small_field(self, density: Target, seed: int, beyond: Any, outcome: Outcome) -> Run:
        """With a field of few latents integrated out, where that is sound; else what lies `beyond` the Gaussian."""
        field, _ = field_of(density, SMALL_FIELD)
        if field is not None and account.of_field(field) < account.for_last(density):
            found, doubts = yield from integrated_latents.judged(field, seed, self.gaussian)
            if found.converged and not doubts:
                others = ({**row, "kept": False} for row in outcome.stages)
                return dataclasses.replace(found, stages=(*others, *found.stages))
        return (yield from beyond(outcome))

    def _around(self, target: Target, begin: FullRank, factors: Outcome, seed: int, steps: int) -> Run:
        """The full-rank Gaussian that is reached from one place in so many steps."""
        fit = yield from natural_gaussian.ascend(target, begin, seed, max_steps=steps)
        stage = Stage("full rank", fit.q, fit.converged)
        compare(target, [stage], seed)
        stage.kept = True
        known = factors.certificate
        certificate = Certificate(
            shift_in_sd=fit.shift,
            rollbacks=float(fit.rollbacks),
            share_elsewhere=known.share_elsewhere,
            variance_elsewhere=known.variance_elsewhere,
        )
        status = f"The full rank Gaussian was kept. {natural_gaussian.describe(target, fit)}"
        return Outcome(fit.q, fit.converged, status, certificate, None, factors.restarts, (stage.row(),))

    def gaussian(self, target: Target, seed: int) -> Run:
        """A Gaussian, and what goes beyond it where it must."""
        first, found = yield from self._gaussian(target, seed)
        return (yield from self._beyond(target, first, found, seed))

    def _beyond(self, target: Target, first: Outcome, found: Survey | None, seed: int) -> Run:
        if not (self.escalate and first.stages):  # no stages: the curvature was found to be all there is
            return first
        return (yield from escalate.escalate(target, first, found, seed, self.escalate is True, self._gaussian))

    def _gaussian(
        self, target: Target, seed: int, near: np.ndarray | None = None, few: bool = False
    ) -> Generator[Progress, None, tuple[Outcome, Survey | None]]:
        """Explore, from `near` first and from a `few` other places or more, fit, compare."""
        work = Work(target, seed, near)
        yield from walk(gaussian_steps(self, target, few), work)
        assert work.outcome is not None  # the last step gives it
        return work.outcome, work.found


def nothing() -> tuple[str, ...]:
    """No sentence: a plan does not show the step."""
    return ()


def _of_black_box(why: str) -> tuple[str, ...]:
    return (
        why,
        "Black-box VI: a native factor for each latent, by stochastic gradients of the bound (jn.bbvi()). Which "
        "gradient each factor gets is measured where the fit is long; fit.status says it.",
        "Where all latents are discrete with at most 65536 joint states, coordinate ascent on their table instead.",
    )


def _of_nested(density: Target) -> tuple[str, ...]:
    if density.dim < MANY or density.model.handled is None:
        return ()
    return (
        f"With {MANY} latents or more, groups of them that are independent given the others are looked for. Where at "
        f"most {SOME} others are left, the groups are integrated out for every value of these (jn.nested), and what "
        f"follows is about the others alone. Before groups that leave more than {FEW} the same is tried with {FIELD} "
        "latents or more on the real line as a field: a chain, or a map, that is nearly Gaussian given the others.",
    )


def _of_ascent(alone: bool) -> tuple[str, ...]:
    if alone:
        return ("The model has discrete latents: coordinate ascent updates their probabilities exactly.",)
    return ("Coordinate ascent: every block is conjugate, and is set to its optimal factor in turn (equations below).",)


def _of_comparison() -> tuple[str, ...]:
    return (
        f"Unless importance weights put the evidence within {NEGLIGIBLE:g} nats of that bound, a Gaussian too, kept if "
        "its bound is higher:",
    )


def _batches(fit: Fitting) -> Walk:
    assert fit.target.stream is not None  # or the step would not be there
    outcome = yield from SVI().run(fit.target.stream, fit.seed)
    fit.outcome = dataclasses.replace(outcome, status=f"The data come in batches: svi. {outcome.status}")
    return True


def _ascended(fit: Fitting) -> Walk:
    assert fit.target.conjugate is not None  # or the step would not be there
    fit.factors = fit.outcome = yield from CAVI().run(fit.target.conjugate, fit.seed)
    return False


def _kept(factors: Outcome, *others: dict[str, Any]) -> Outcome:
    """The factors, with what else was tried."""
    own = {"family": "conjugate factors", "elbo": factors.certificate["elbo"], "se": 0.0, "kept": True}
    return dataclasses.replace(factors, stages=(own, *others))


def _swept(seed: int, factors: Outcome, beyond: Any, outcome: Outcome) -> Run:
    """Draws of the factors moved by Gibbs sweeps, which cost little; where these do not mix, what lies `beyond`."""
    others = () if outcome.q is factors.q else ({**row, "kept": False} for row in outcome.stages)
    start = outcome if outcome.q is factors.q else dataclasses.replace(_kept(factors), further=None)
    moved = yield from gibbs.swept(seed, start)
    if isinstance(moved.q, gibbs.Swept):
        return dataclasses.replace(moved, stages=(*moved.stages, *others), further=beyond)
    if beyond is not None:
        return (yield from beyond(outcome))
    return dataclasses.replace(outcome, status=moved.status) if outcome.q is factors.q else outcome
