"""Hierarchical variational models: a prior on the mean-field parameters makes latents depend on each other."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._ascent import moves
from jensen._base.errors import OptionError, nearest
from jensen._blackbox.bbvi import BBVI
from jensen._blackbox.learned import Jointly, JointMove, LearnedTarget, learned_target
from jensen._blackbox.start import starting_product
from jensen._bounds import ELBO
from jensen._core import AbstractAlgorithm, AbstractBound, AbstractDensity, AbstractEstimator, Certificate, Outcome
from jensen._core.algorithm import Run
from jensen._families.native import AbstractFactor, native_factor
from jensen._hierarchical.family import AbstractAuxiliary
from jensen._hierarchical.fitting.estimator import estimator_for, recipes_for
from jensen._hierarchical.fitting.moments import Plain, moments
from jensen._hierarchical.fitting.race import LENGTH, Flattened, race, spread
from jensen._hierarchical.fitting.rows import back_to_mean_field, row_inputs
from jensen._hierarchical.fitting.scouts import sighted
from jensen._hierarchical.fitting.start import at_optima, by_rows, check_names, starting_family
from jensen._math.keys import purpose_key
from jensen._math.precision import Precision, working
from jensen._model.native import NativeTarget, native_target
from jensen._program.contract import AbstractProgram
from jensen._program.structure import plate_axis


class HVM(AbstractAlgorithm):
    """q(z; θ) = ∫ q(λ; θ) Π_i q(z_i | λ_i) dλ: factors of mean field whose parameters λ are drawn together.

    Latents of any kind, discrete ones too, depend on each other through λ:
    Cov(z_i, z_j) = Cov_λ(E[z_i | λ_i], E[z_j | λ_j]). The bound holds an auxiliary density r(λ | z; φ), fitted with q
    (Ranganath, Tran and Blei 2016); `importance` draws of r tighten it (Sobolev and Vetrov 2019). Given λ the latents
    are a product, so small supports are summed over, other discrete latents scored over their Markov blankets with
    regressed controls, and continuous ones reparameterised; the components of a mixture prior are summed out.

    Args:
        prior: "mixture" (of Gaussians; the default up to 64 entries of λ), "full_rank", "low_rank" (the default
            beyond), "mean_field", "flow", or a density over R^D.
        auxiliary: "factorised", "gaussian", "mixture", "flow", "prior" (semi-implicit), or an `AbstractAuxiliary`; by
            default the form that suits the prior.
        importance: K, draws of r beside the λ that z came from; 0 is the hierarchical bound.
        num_components: of a mixture prior.
        num_draws: draws of λ for each step, over all components.
        families: site -> native factor, in the place of the family of its support.
        estimator, bound: one's own instead of the choices above; with `jn.ImportanceWeighted(M)` and `importance` the
            bound is sampled doubly.
        plate: one whose rows each get a prior of their own for their λ (full rank, r by Bayes' rule or "gaussian"),
            independent of other rows': for local latents. Every latent must be inside it. Unless parameters are
            learned, mean field comes first, and a row whose bound does not rise above it stays there.
        amortised: whether the rows' priors come from a network that sees the rows' data, and r from one they share,
            so that what is learned does not grow with the rows; with `plate` or `batch_size`.
        batch_size: rows of `plate` (the largest one unless told otherwise) in each step, each standing for N / B; the
            parameters of all rows are kept. The bound that a fit reports, and its checks, are on all rows.
        num_starts: short runs from different starts before the best goes on.
        rate: first step size, in units of the factors' information.
        max_steps: gradient steps at most.
        tolerance: agreement of successive averages in posterior sds.
    """

    name: ClassVar[str] = "hvm"
    prior: str | AbstractDensity | None = None
    auxiliary: str | AbstractAuxiliary | None = None
    importance: int | np.integer = eqx.field(static=True, default=0)
    num_components: int = eqx.field(static=True, default=4)
    num_draws: int = eqx.field(static=True, default=16)
    families: Mapping[str, AbstractFactor] = eqx.field(default_factory=dict)
    estimator: AbstractEstimator | None = None
    bound: AbstractBound = ELBO()
    plate: str | None = eqx.field(static=True, default=None)
    batch_size: int | None = eqx.field(static=True, default=None)
    amortised: bool = eqx.field(static=True, default=False)
    num_starts: int = eqx.field(static=True, default=4)
    rate: float = eqx.field(static=True, default=0.05)
    max_steps: int = eqx.field(static=True, default=30_000)
    tolerance: float = eqx.field(static=True, default=0.02)

    def __check_init__(self) -> None:
        whole = isinstance(self.importance, (int, np.integer)) and not isinstance(self.importance, bool)
        if not whole or self.importance < 0:
            raise OptionError(
                f"importance must be a whole number of at least 0, got {self.importance!r}.",
                "Option: importance of hvm.",
                "0 is the hierarchical bound; each further draw of r tightens it.",
            )
        for option in ("tolerance", "rate"):
            if not getattr(self, option) > 0:
                raise OptionError(f"{option} must be positive.", f"Option: {option} of hvm.", "Leave it out.")
        check_names(self.prior, self.auxiliary, self.num_components)
        self._check_rows()

    def _check_rows(self) -> None:
        if self.plate is None and self.batch_size is None:
            if self.amortised:
                raise OptionError(
                    "Only priors of rows can be amortised.", "Option: amortised of hvm.", "Name the rows' plate=."
                )
            return
        given = {
            "prior": self.prior not in (None, "full_rank"),
            "auxiliary": self.auxiliary not in (None, *(() if self.amortised else ("gaussian",))),
            "bound": not self.bound.linear,
        }
        for option, other in given.items():
            if other:
                raise OptionError(
                    "Row by row, λ has a full-rank Gaussian prior and r is Gaussian, under a bound that is linear in "
                    "the log weights.",
                    f"Options: plate, batch_size, {option} of hvm.",
                    f"Leave {option} out, or plate and batch_size.",
                )

    def prepare(
        self, model: Callable[..., Any] | AbstractProgram, data: Mapping[str, Any] | None, precision: Precision
    ) -> NativeTarget:
        """The model on its own supports, discrete latents allowed."""
        target = native_target(model, data, precision, batch_size=self.batch_size, plate=self.plate)
        self._look_at_rows(model, data, target)
        sites = {site.name: site for site in target.structure.latents}
        for name, factor in self.families.items():
            if name not in sites:
                raise OptionError(f"There is no latent site '{name}'.", "Option: families.", nearest(name, sites))
            _serves(sites[name], factor, target.supports.get(name), precision)
        return target

    def prepare_learning(
        self, fn: Callable[..., Any], parameters: Any, data: Mapping[str, Any] | None, precision: Precision
    ) -> LearnedTarget:
        """The model on its own supports, at its parameters' starting values."""
        found = learned_target(fn, parameters, data, precision, self.batch_size, self.plate)
        self._look_at_rows(fn, data, found.native)
        return found

    def _look_at_rows(self, fn: Any, data: Mapping[str, Any] | None, target: NativeTarget) -> None:
        """Refuse latents outside the rows; see what the data say of each row where that is asked for."""
        self._row_axes(target)
        plate = self.plate if target.subsample is None else target.subsample.plate
        if self.amortised and plate is not None:
            with working(target.precision):
                target.row_inputs = row_inputs(fn, data, target, plate)

    def _row_axes(self, target: NativeTarget) -> dict[str, int]:
        """Site -> the axis of the rows whose λ is their own; empty where λ has one prior. Refuses latents outside."""
        plate = self.plate if target.subsample is None else target.subsample.plate
        if plate is None:
            return {}
        plates = target.structure.plates
        if plate not in plates:
            raise OptionError(f"There is no plate '{plate}'.", "Option: plate of hvm.", nearest(plate, plates))
        axes = {site.name: plate_axis(site, plate) for site in target.structure.latents}
        for name, axis in axes.items():
            if axis is None:
                raise OptionError(
                    f"The latent '{name}' is not inside the plate '{plate}', so no row has it to itself.",
                    f"Site '{name}', shape {target.structure.sites[name].shape}.",
                    f"Learn it, learn=['{name}'], or leave plate and batch_size out.",
                )
        return {name: axis for name, axis in axes.items() if axis is not None}

    def run(self, target: NativeTarget | LearnedTarget, seed: int) -> Run:
        """Start, race, ascend, look at what q says; parameters move along."""
        if isinstance(target, LearnedTarget):
            return (yield from target.reported(self._run(target.native, seed, target)))
        return (yield from self._run(target, seed, None))

    def _run(self, target: NativeTarget, seed: int, learn: LearnedTarget | None) -> Run:
        with working(target.precision):
            product = starting_product(target, seed, self.families)
            axes, budget = self._row_axes(target), self.max_steps
            alone = bool(axes) and learn is None and not self.amortised
            if alone:
                first = BBVI(num_starts=self.num_starts, max_steps=max(200, budget // 2))
                product = (yield from first.ascend(target, product, seed)).q
                budget -= min(budget // 2, first.max_steps)
            starts: list[Any] = [self._rows(target, product, axes, seed)] if axes else []
            starts = starts or self._starts(target, product, seed)
            begin = starts[0]
            estimator = self.estimator or estimator_for(target, starts[0], self.bound, self.num_draws)
            move: Any = Plain()
            if learn is not None:
                starts = [learn.together(q) for q in starts]
                estimator, move = Jointly(estimator, learn.charts), JointMove(move)
            view = Flattened(target, learn is not None or target.subsample is not None)
            epoch = 1 if target.subsample is None else target.subsample.epoch
            chunk = max(200 if axes else 1000, 20 * epoch)
            longest = max(chunk, LENGTH) if len(starts) > 1 else None
            steps = moves.Chunks(view, estimator, self.bound, move, quick=0, heavy="middle", longest=longest)
            q, reached = yield from race(steps, view, starts, self.rate, seed)
            fit = yield from moves.ascend(
                steps,
                q,
                purpose_key(seed, "ascent"),
                rate=self.rate,
                chunk=chunk,
                max_chunks=max(1, budget // chunk),
                tolerance=self.tolerance,
                phase="ascent",
                patience=2,
                epoch=epoch,
            )
            q, plain = (fit.q, 0) if not alone else back_to_mean_field(target, fit.q, begin, axes, seed)
            found = moments(q if learn is None else fit.q.q, 4096, seed, covariance=False)
        end = (
            f"Averages at two successive step sizes agree to {fit.shift:.2g} posterior sd."
            if fit.converged
            else f"Stopped at {self.max_steps} steps; the last averages still differ by {fit.shift:.2g} posterior sd."
        )
        if plain:
            size = begin.prior.num_rows
            end = f"{end} Of {size} rows {plain} are as mean field left them: dependence did not raise their bound."
        certificate = Certificate(
            shift_in_sd=fit.shift,
            rejected_steps=float(fit.rejected),
            information=found.information,
            information_se=found.information_se,
        )
        return Outcome(q, fit.converged, end, certificate, restarts=reached)

    def _rows(self, target: NativeTarget, product: Any, axes: Mapping[str, int], seed: int) -> Any:
        inputs = target.row_inputs if self.amortised else None
        q = by_rows(product, axes, int(self.importance), seed, self.auxiliary, inputs)
        return jax.tree.map(jnp.asarray, q)

    def _starts(self, target: NativeTarget, product: Any, seed: int) -> list[Any]:
        """Of a mixture prior every other one has its components at the optima of single products."""

        def start(index: int, prior: Any) -> Any:
            options = (self.auxiliary, self.num_components, int(self.importance))
            return starting_family(product, prior, *options, seed + index, spread(index))

        starts = [start(index, self.prior) for index in range(self.num_starts)]
        ours = self.prior is None or isinstance(self.prior, str)
        if ours and starts[0].num_strata > 1:
            rows = {name: factor.rows for name, factor in product.factors.items()}
            recipes, inside = recipes_for(target, starts[0], target.links(rows))
            found = sighted(target, starts[0], recipes, max(8, inside), seed)
            if len(found.bounds):
                for index in range(0, self.num_starts, 2):
                    starts[index] = start(index, at_optima(found, self.num_components, seed + index, spread(index)))
        return [jax.tree.map(jnp.asarray, one) for one in starts]


def _serves(site: Any, factor: Any, support: Any, precision: Precision) -> None:
    """Refuse a factor whose draws are not values of the site."""
    nearest_one = type(native_factor(site, support)).__name__
    remedy = f"The family of this support is {nearest_one}."
    where = f"Site '{site.name}', support {site.support}, shape {site.shape}."
    if not isinstance(factor, AbstractFactor):
        what = getattr(factor, "__name__", None) or type(factor).__name__
        raise OptionError(f"{what} cannot serve '{site.name}': it is not a native factor.", where, remedy)
    what = type(factor).__name__
    with working(precision):
        draw = np.asarray(factor.sample(jr.key(0)))
    if factor.discrete != site.discrete:
        kind = "discrete" if site.discrete else "continuous"
        raise OptionError(f"{what} cannot serve '{site.name}', which is {kind}.", where, remedy)
    if draw.shape != tuple(site.shape):
        raise OptionError(
            f"{what} draws values of shape {draw.shape}.", where, f"Make its leaves of shape {site.shape}."
        )
    if not np.all((support or site.support)(jnp.asarray(draw))):
        raise OptionError(f"{what} draws values outside the support of '{site.name}'.", where, remedy)
