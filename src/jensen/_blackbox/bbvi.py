"""Black-box variational inference: any model, any latents, from values of log p(x, z)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.random as jr
import numpy as np

from jensen._ascent import moves, table
from jensen._base.errors import OptionError, nearest
from jensen._blackbox import recipes
from jensen._blackbox.learned import Jointly, JointMove, LearnedTarget, Together, learned_target
from jensen._blackbox.start import jittered, starting_product
from jensen._bounds import ELBO
from jensen._core import AbstractAlgorithm, AbstractBound, AbstractEstimator, Certificate, Outcome, Progress
from jensen._core.algorithm import Run
from jensen._families.native import AbstractFactor, Product
from jensen._math.keys import pair, purpose_key
from jensen._math.precision import Precision, working
from jensen._model.native import NativeTarget, native_target
from jensen._program.contract import AbstractProgram

VISITS = 20
"""Passes over all rows at each step size, at least."""


class BBVI(AbstractAlgorithm):
    """q(z) = Π_j q_j(z_j) with a native factor for each latent site, by stochastic gradients of the bound.

    Ranganath, Gerrish and Blei (2014), with estimators of lower variance: what can be reparameterised is, discrete
    latents with a small support are summed over their own values given draws of the rest, and what is left is scored
    over its Markov blanket (read off the traced program) with regressed controls; the noise that neighbours' draws add
    is interpolated away in their statistics (`jensen._estimators.neighbours`). The gradients are chosen for the
    least work, operations of a step times the steps that their measured variance asks for, once the steps have been as
    much work as measuring is; until then they are those with the most taken out. `status` says which.
    Steps are in units of each factor's Fisher information; the step size halves until two averages agree to
    `tolerance` posterior sds. A model whose latents are all discrete with at most 65536 joint states is solved exactly
    by coordinate ascent on the table of its log joint, from many starts.

    Args:
        num_draws: draws for each step (more where an estimator needs more).
        families: site -> native factor, in the place of the family of its support.
        estimator: one of one's own instead of the choice; `bound` likewise.
        num_starts: short runs from different starts before the best goes on, where there are discrete latents.
        max_steps: gradient steps at most.
        tolerance: agreement of successive averages in posterior sds (a tenth of it for probabilities).
        tabulate: whether to solve small discrete models on their table.
        batch_size: rows of `plate` (the largest one unless told otherwise) in each step, each standing for N / B; the
            factors of all rows are kept. The bound that a fit reports, and its checks, are on all rows.
    """

    name: ClassVar[str] = "bbvi"
    num_draws: int = eqx.field(static=True, default=8)
    families: Mapping[str, AbstractFactor] = eqx.field(default_factory=dict)
    estimator: AbstractEstimator | None = None
    bound: AbstractBound = ELBO()
    num_starts: int = eqx.field(static=True, default=4)
    max_steps: int = eqx.field(static=True, default=20_000)
    tolerance: float = eqx.field(static=True, default=0.05)
    tabulate: bool = eqx.field(static=True, default=True)
    batch_size: int | None = eqx.field(static=True, default=None)
    plate: str | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.plate is not None and self.batch_size is None:
            raise OptionError("plate says which rows batches are of.", "Option: plate of bbvi.", "Add batch_size=....")
        if self.batch_size is not None and not self.bound.linear:
            raise OptionError(
                f"{type(self.bound).__name__} is not a sum over rows, which batches estimate.",
                "Options: bound, batch_size.",
                "Leave one of them out.",
            )
        if not self.tolerance > 0:
            raise OptionError(f"tolerance must be positive, got {self.tolerance}.", "Option: tolerance of bbvi.")
        if not self.bound.linear and self.estimator is None:
            raise OptionError(
                f"bbvi chooses its estimators for bounds that are linear in the log weights, not for "
                f"{type(self.bound).__name__}.",
                "Options: bound, estimator.",
                "Give one: estimator=jn.ScoreFunction(20, pathwise=True).",
            )

    def prepare(
        self, model: Callable[..., Any] | AbstractProgram, data: Mapping[str, Any] | None, precision: Precision
    ) -> NativeTarget:
        """The model on its own supports, discrete latents allowed."""
        target = native_target(model, data, precision, batch_size=self.batch_size, plate=self.plate)
        names = [site.name for site in target.structure.latents]
        for name in self.families:
            if name not in names:
                raise OptionError(f"There is no latent site '{name}'.", "Option: families.", nearest(name, names))
        return target

    def prepare_learning(
        self, fn: Callable[..., Any], parameters: Any, data: Mapping[str, Any] | None, precision: Precision
    ) -> LearnedTarget:
        """The model on its own supports, at its parameters' starting values."""
        return learned_target(fn, parameters, data, precision, self.batch_size, self.plate)

    def run(self, target: NativeTarget | LearnedTarget, seed: int) -> Run:
        """Choose factors, then solve on the table or ascend; parameters move along."""
        learn = target if isinstance(target, LearnedTarget) else None
        native = learn.native if learn is not None else target
        assert isinstance(native, NativeTarget)  # one or the other
        with working(native.precision):
            q = starting_product(native, seed, self.families)
            if learn is not None:
                return (yield from learn.reported(self.ascend(native, q, seed, learn)))
            whole = self.estimator is None and self.batch_size is None
            if self.tabulate and whole and table.joint_states(q):
                yield Progress("table", 0, -np.inf, q)
                return self._on_table(native, q, seed)
            return (yield from self.ascend(native, q, seed))

    def _on_table(self, target: NativeTarget, q: Product, seed: int) -> Outcome:
        found = table.ascend(table.tabulate(target, q), np.random.default_rng(seed))
        others = len(found.bounds) - 1
        status = (
            f"Every joint state was tabulated; coordinate ascent converged after {found.sweeps} sweeps at the best of "
            f"{len(found.bounds)} optima found{'' if not others else f', {found.bounds[1]:.4g} nats being the next'}."
        )
        share = float(np.exp(np.array(found.bounds[1:]) - found.bounds[0]).sum()) if others else 0.0
        certificate = Certificate(elbo=found.bounds[0], gain=found.gain, share_elsewhere=share / (1.0 + share))
        return Outcome(table.as_product(q, found.marginals), True, status, certificate, restarts=found.bounds)

    def ascend(self, target: NativeTarget, q: Any, seed: int, learn: LearnedTarget | None = None) -> Run:
        """From this product, by stochastic gradients."""
        key = jr.key(seed)
        part = q.at(target.batch())
        links = target.links({name: factor.rows for name, factor in part.factors.items()})
        first, key = pair(key)
        chosen = None if self.estimator is not None else recipes.presumed(target, q, links, self.num_draws)

        def measured(q: Any) -> Any:
            nonlocal chosen
            chosen = recipes.choose(target, q if learn is None else q.q, links, self.num_draws, first)
            return estimator_of(chosen.estimator())

        def estimator_of(inner: Any) -> Any:
            return inner if learn is None else Jointly(inner, learn.charts)

        reached: tuple[float, ...] = ()
        discrete = any(factor.discrete for factor in q.factors.values())
        move: Any = moves.ByInformation()
        if learn is not None:
            q, move = learn.together(q), JointMove(move)
        later, begun = None, estimator_of(self.estimator)
        if chosen is not None and chosen.unsure:
            begun = measured(q)
        elif chosen is not None:
            later, begun = (measured if chosen.open else None), estimator_of(chosen.estimator())
        steps = moves.Chunks(target, begun, self.bound, move, later=later, worth=recipes.MEASURING)
        if discrete and self.num_starts > 1:
            q, reached = yield from self._race(steps, q, seed)
        epoch = 1 if target.subsample is None else target.subsample.epoch
        chunk = 200 if epoch == 1 else max(200, VISITS * epoch)
        fit = yield from moves.ascend(
            steps,
            q,
            key,
            rate=0.1,
            chunk=chunk,
            max_chunks=max(1, self.max_steps // chunk),
            tolerance=self.tolerance,
            phase="ascent",
            epoch=epoch,
        )
        end = (
            f"Averages at two successive step sizes agree to {fit.shift:.2g} posterior sd."
            if fit.converged
            else f"Stopped at {self.max_steps} steps; the last averages still differ by {fit.shift:.2g} posterior sd."
        )
        status = f"{end} Gradients: {chosen}." if chosen is not None else end
        certificate = Certificate(shift_in_sd=fit.shift, rejected_steps=float(fit.rejected))
        return Outcome(fit.q, fit.converged, status, certificate, restarts=reached)

    def _race(self, steps: moves.Chunks, q: Any, seed: int) -> Any:
        """Short runs from several starts; (the best, the bounds reached)."""
        found = []
        for start in range(self.num_starts):
            begin: Any = q if start == 0 else _elsewhere(q, seed + start)
            key = purpose_key(seed, f"start {start}")
            _, _, average, values, fine = steps(begin, 0.1, moves.fresh(begin), key, 200)
            tail = values[100:][fine[100:]]
            reached = float(tail.mean()) if len(tail) else -np.inf
            found.append((reached, start, average))
            yield Progress("start", start + 1, reached, average)
        found.sort(key=lambda item: -item[0])
        return found[0][2], tuple(item[0] for item in found)


def _elsewhere(q: Any, seed: int) -> Any:
    """Another start of q; parameters begin where they are given."""
    if isinstance(q, Together):
        return Together(jittered(q.q, seed, 1.0), q.parameters)
    return jittered(q, seed, 1.0)
