"""Amortised inference: one network answers for every row, and the model's parameters are learned with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._amortised.ascent.ascent import ascend
from jensen._amortised.ascent.evaluate import Evaluator, measure, picked_rows
from jensen._amortised.ascent.prepare import check_structure, divided
from jensen._amortised.ascent.steps import Steps
from jensen._amortised.ascent.watch import Watch
from jensen._amortised.family import Amortised, Direct, Shape, Structured, encoder_for
from jensen._amortised.family.row_factors import joint_states
from jensen._amortised.model import RowTarget, row_target
from jensen._amortised.row_estimator import Learned, RowEstimator
from jensen._base.errors import OptionError, nearest
from jensen._bounds import ELBO, Weighted
from jensen._core import AbstractAlgorithm, AbstractBound, Certificate, Estimates, Outcome, Progress, relayed
from jensen._core.algorithm import Run
from jensen._families import FullRank, MeanField
from jensen._math.noise import symmetric_draws
from jensen._math.precision import Precision, float_type, working
from jensen._model.parameters import Parameter
from jensen._model.parameters.charts import at_edge
from jensen._program.programs import as_program

DENSE = 40
"""Coordinates that rows share up to which their covariance is full."""
MEASURED, DRAWN = 2048, 16_384
"""Rows on which stages are compared, and draws of them all together: at least 8 of each row, at most 128."""
EPOCHS, STEPS = 500, 20_000
FAMILIES = ("mean_field", "full_rank", "structured")
PRIOR_DRAWS = 16
"""Fixed draws of what rows share, over which the structured family averages the rows' prior."""


class AmortisedVI(AbstractAlgorithm):
    """q(z, β) = q(β) Π_n q(z_n | x_n): an encoder maps each row's data to the parameters of that row's factor.

    The rows are those of one plate. Continuous latents of a row get a Gaussian on the unconstrained space, discrete
    ones a native factor; what lies outside the plate keeps a Gaussian of its own, and parameters (`numpyro.param`,
    `learn=[...]`, networks by `numpyro.contrib.module`) are learned with it. Kingma and Welling (2014); Rezende,
    Mohamed and Wierstra (2014). Minibatches are rows of every argument with as many entries as the plate; their terms
    count N / B times. That a row's terms are its own is checked before the fit.

    There is no learning rate: several are tried, the best is cut when the bound stops rising, and iterates are
    averaged. New rows are answered by `fit.infer` and `fit.predict` without a refit.

    Args:
        encoder: an equinox module, called with one row (the array itself where one argument has rows, else a dict by
            argument), that returns the numbers of the row's factor: means, log sds (`full_rank`: log diagonal and
            strict lower part of L), then the parameters of discrete factors, in one array or several. By default a
            network is built from the data's shapes: two hidden layers beside a linear map.
        hidden: sizes of the hidden layers of the network that is built.
        inputs: arguments that the encoder sees; default all with rows.
        family: of each row's Gaussian: "mean_field", "full_rank", or "structured": the row's Gaussian prior times
            N(m; z, (R Rᵀ)⁻¹), where the encoder returns m and R (in the places of the mean and of L) as if it had
            seen the latents (Johnson et al. 2016). It needs priors that are Gaussian given codes and what rows share.
        bound: `jn.ELBO()`, `jn.ImportanceWeighted(K)`, `jn.Renyi(alpha, K)` (row by row, with doubly reparameterised
            gradients), or `jn.Weighted(beta)`.
        num_draws: draws of each row in a step (for bounds of K particles: groups of them); more for scored codes.
        batch_size: rows of a minibatch; default all up to 256, else 128.
        max_epochs: passes over the rows at most; default 500, and more where they make fewer than 20000 steps.
        tolerance: gain in nats a row, for each of two cuts of the step size in a row, at which it has converged.
        plate: of the rows; default the largest that holds latents.
        held_out: share of the rows that the fit never sees (the same ones for the same number of rows). The ascent then
            keeps what is best for them, and `check` compares their bound with that of the others.
    """

    name: ClassVar[str] = "amortised"
    encoder: Any = None
    hidden: Sequence[int] | None = eqx.field(static=True, default=None)
    inputs: Sequence[str] | None = eqx.field(static=True, default=None)
    family: Literal["mean_field", "full_rank", "structured"] = eqx.field(static=True, default="mean_field")
    bound: AbstractBound = ELBO()
    num_draws: int = eqx.field(static=True, default=1)
    batch_size: int | None = eqx.field(static=True, default=None)
    max_epochs: int | None = eqx.field(static=True, default=None)
    tolerance: float = eqx.field(static=True, default=1e-4)
    plate: str | None = eqx.field(static=True, default=None)
    held_out: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        if self.family not in FAMILIES:
            raise OptionError(
                f"amortised has no family '{self.family}'.", "Option: family.", nearest(str(self.family), FAMILIES)
            )
        if not self.tolerance > 0:
            raise OptionError(f"tolerance must be positive, got {self.tolerance}.", "Option: tolerance of amortised.")
        if not 0.0 <= self.held_out <= 0.9:
            raise OptionError(
                f"held_out must be a share of the rows, got {self.held_out}.",
                "Option: held_out.",
                "held_out=0.1, say.",
            )
        hidden = self.hidden
        if hidden is not None and not all(isinstance(size, int) and size > 0 for size in hidden):
            raise OptionError(
                f"hidden must hold positive whole numbers, got {hidden!r}.", "Option: hidden.", "hidden=(64, 64), say."
            )
        if hidden is not None and self.encoder is not None:
            raise OptionError(
                "hidden shapes the network that is built, but an encoder is given.",
                "Options: hidden, encoder.",
                "Leave one of them out.",
            )
        if isinstance(self.inputs, str):
            raise OptionError("inputs must be a list of names.", "Option: inputs.", f"inputs=[{self.inputs!r}]")

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> RowTarget:
        """The model by rows."""
        return self.prepare_learning(model, (), data, precision)

    def prepare_learning(
        self,
        fn: Callable[..., Any],
        parameters: tuple[Parameter, ...],
        data: Mapping[str, Any] | None,
        precision: Precision,
    ) -> RowTarget:
        """The model by rows, with its parameters."""
        if not as_program(fn).handled:
            raise OptionError(
                f"A {type(fn).__name__} has no plates, so there are no rows to amortise over.",
                "Argument: method.",
                "Write the model in NumPyro with a plate of rows.",
            )
        for p in parameters:
            if p.initial is None:
                raise OptionError(
                    f"The latent '{p.name}' cannot be held at a point by 'amortised'.",
                    p.where,
                    "Write it as numpyro.param with an initial value, or leave it latent.",
                )
        target = row_target(fn, data, precision, parameters, self.plate)
        if self.held_out:
            target = divided(target, fn, data, precision, parameters, self.held_out)
        for name in self.inputs or ():
            if name not in target.cut:
                raise OptionError(f"The encoder cannot see '{name}'.", "Option: inputs.", nearest(name, target.cut))
        if self.batch_size is not None and self.batch_size > target.size:
            raise OptionError(
                f"batch_size is {self.batch_size}, but there are {target.size} rows.", "Option: batch_size."
            )
        target.encoder = self.encoder
        if self.family == "structured":
            check_structure(target)
        with working(precision):
            self.start(target, 0)  # an encoder that does not fit is refused before anything is compiled
        return target

    def start(self, target: RowTarget, seed: int) -> Learned:
        """q and the parameters before the first step."""
        shape = Shape.of(target.layout, self.family != "mean_field")
        inputs = tuple(self.inputs) if self.inputs is not None else target.cut
        encoder = encoder_for(target.rows, shape, self.encoder, inputs, self.hidden, seed)
        kind, dim = float_type(target.precision), target.layout.shared_dim
        loc, log_scale = jnp.zeros(dim, kind), jnp.full(dim, -2.0, kind)
        shared = (
            FullRank(loc, log_scale, jnp.zeros((dim, dim), kind)) if 0 < dim <= DENSE else MeanField(loc, log_scale)
        )
        form = Structured(symmetric_draws(PRIOR_DRAWS, dim, 0)) if self.family == "structured" else Direct()
        return Learned(Amortised(encoder, shared, shape, form), jax.tree.map(jnp.asarray, dict(target.start)))

    def estimator(self, target: RowTarget, batch: int) -> RowEstimator:
        """The estimator for this model."""
        layout = target.model(batch).layout
        states = joint_states(layout) if self.bound.linear and layout.codes else None
        scored = bool(layout.codes) and states is None
        if not self.bound.linear:
            return RowEstimator(self.num_draws, max(self.bound.group, 2 if scored else 1), None, scored)
        return RowEstimator(max(self.num_draws, 4) if scored else self.num_draws, 1, states, scored)

    def run(self, target: RowTarget, seed: int) -> Run:
        """Ascend, and put the answer together."""
        with working(target.precision):
            batch = self.batch_size or (target.size if target.size <= 256 else 128)
            learned = self.start(target, seed)
            evaluator = Evaluator(target)
            steps = Steps(target, self.estimator(target, batch), self.bound, batch, evaluator.heavy, seed)
            some = picked_rows(target.held or target.rows, MEASURED, seed)
            most = self.max_epochs or int(max(EPOCHS, STEPS * batch / target.size))
            draws = int(np.clip(DRAWN // len(next(iter(some.values()))), 8, 128))
            bound = measure(evaluator, some, target.size, draws, seed + 1)
            watch = Watch(target, learned)
            options = (most, self.tolerance, bool(target.held))
            climb = ascend(steps, learned, lambda x: bound(x.q, x.parameters), watch, *options)

            def written(item: Progress) -> Progress:
                q: Any = item.q
                return replace(item, q=partial(self._outcome, target, q, False, "", Certificate()))

            found = yield from relayed(climb, written)
            certificate = Certificate(
                epochs=found.epochs,
                gain_per_row=found.gain,
                step_size=found.rate,
                rejected_steps=float(found.rejected),
            )
            far = watch.far(found.learned, found.converged)
            end = (
                f"Converged after {found.epochs:.0f} epochs: the last cut of the step size gained {found.gain:.1g} "
                "nats a row."
                if found.converged
                else f"Stopped after {found.epochs:.0f} epochs (max_epochs={most}); the last cut of the step "
                f"size still gained {found.gain:.2g} nats a row."
            )
            if target.held:
                end += f" What was best for {len(next(iter(target.held.values())))} held-out rows was kept."
            changed = (
                f" What was maximised counts the divergence {self.bound.beta:g} times: it is not the ELBO."
                if isinstance(self.bound, Weighted) and self.bound.beta != 1.0
                else ""
            )
            return self._outcome(target, found.learned, found.converged, f"{end}{changed}{at_edge(far)}", certificate)

    def _outcome(
        self, target: RowTarget, learned: Learned, converged: bool, status: str, certificate: Certificate
    ) -> Outcome:
        estimates = None
        if target.parameters:
            values = jax.device_get(target.charts.values(learned.parameters))
            kinds = {p.name: p.kind for p in target.parameters}
            found = {name: np.asarray(values[name], float) for name in kinds}
            estimates = Estimates(found, kinds, False)
        q = jax.device_get(learned.q)
        return Outcome(q, converged, status, certificate, estimates=estimates, target=target)
