"""What a fit by an encoder answers: weights row by row, new rows without a refit."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from jensen._amortised.answer import aggregate, bounds, files
from jensen._amortised.answer.all_rows import AllRows
from jensen._amortised.answer.looked import pool_of
from jensen._amortised.answer.moments import moments
from jensen._amortised.ascent.evaluate import picked_rows, shared_draws
from jensen._amortised.ascent.refine import refined
from jensen._amortised.checks import Rows, SharedOfRows
from jensen._amortised.family import Amortised
from jensen._amortised.model import RowTarget
from jensen._amortised.row_posterior import RowPosterior
from jensen._amortised.rows import ROWS, RowStatistics, looked_at, shared_differences
from jensen._conjugate.answer import check_affordable
from jensen._core import AbstractCheck, Outcome
from jensen._math.precision import Precision, float_type, working
from jensen._model.program import BoundProgram, deterministic_names
from jensen._verdict.answer import AbstractAnswer, Draws
from jensen._verdict.checks import Optimiser, Said
from jensen._verdict.evidence import Decomposition, Evidence
from jensen._verdict.importance import Pool, smooth
from jensen._verdict.moments import Agreement, compare
from jensen._verdict.surgery import Surgery

FEWER = "Draw fewer, or ask for some rows: fit.infer(rows).sample()."

HELD = 1024
"""Rows at most, of those held out and of the others, that are compared."""
NOT_KNOWN = (
    "No rows were held out, so that nothing says whether the networks overfit: jn.amortised(held_out=0.1) finds out, "
    "and so does fit.infer(new).log_evidence()."
)


class AmortisedAnswer(AbstractAnswer):
    """q(z, β) = q(β) Π_n q(z_n | x_n). Weights of rows are their own, given β; those of β hold the rows weighed out."""

    kind: ClassVar[str] = "amortised"
    approximates: ClassVar[type] = Amortised
    advice: Mapping[str, str] = {
        "usable": "Use `sample`, `summary` and `infer(rows).sample(corrected=True)`, which weigh each row's draws.",
        "untrusted": "Try jn.amortised(family='full_rank'), a larger encoder or more epochs; infer(..., refine=True) "
        "refines single rows.",
    }
    space: str = "what rows share, each row being weighed by itself"

    def __init__(self, target: RowTarget, outcome: Outcome, seed: int):
        self.target, self.outcome, self.seed = target, outcome, seed
        self.structure = target.structure

    @functools.cached_property
    def program(self) -> BoundProgram:  # type: ignore[override]
        """The program with all rows, at the learned parameters."""
        estimates = self.outcome.estimates
        return self.target.program_at(dict(estimates) if estimates else {})

    @functools.cached_property
    def parameters_at(self) -> dict[str, np.ndarray]:
        """The learned parameters, unconstrained."""
        if self.outcome.estimates is None:
            return {}
        kind = float_type(self.target.precision)
        with working(self.target.precision):
            values = {name: np.asarray(value, kind) for name, value in self.outcome.estimates.items()}
            return {name: np.asarray(value, kind) for name, value in self.target.charts.points(values).items()}

    @property
    def q(self) -> Amortised:
        """Encoder and shared factor."""
        return self.outcome.q

    @property
    def approximation(self) -> RowPosterior:
        """The posterior of the fit's own rows."""
        return self.infer(None, False)

    @functools.cached_property
    def rows(self) -> AllRows:
        """The fit's own rows."""
        return AllRows(self.target, self.q, self.parameters_at, self.seed)

    def elbo(self, seed: int) -> tuple[float, float]:
        """On fresh draws of all rows."""
        return bounds.elbo(self.rows, seed)

    def pool(self, seed: int) -> Pool:
        """First draws of q, then as many with every row resampled by its weights and weighed by what rows share."""
        del seed
        return pool_of(self.rows.looked)

    def _complete(self, values: Draws) -> Draws:
        """In the model's order, with deterministic sites where all latents are there."""
        latents = self.structure.latents
        draws = {site.name: values[site.name] for site in latents if site.name in values}
        whole = all(site.name in draws and draws[site.name].shape[1:] == site.shape for site in latents)
        names = deterministic_names(self.structure)
        return draws | self.program.deterministic(draws, names) if whole and names else draws

    def draws_of(self, pool: Pool) -> Draws:
        """What tables show: latents outside the plate, and those of the rows, of the first rows if there are many."""
        found = self.rows.looked
        values = {name: np.concatenate([found.raw[name], found.corrected[name]]) for name in found.raw}
        return self._complete(self.rows.with_shared(values, pool.points[:, 1:]))

    def resampled(self, pool: Pool, draws: Draws, rows: np.ndarray, seed: int) -> Draws:
        """Every latent, each row resampled by its own weights at the shared draws of these rows of the pool."""
        check_affordable(self.structure.latents, len(rows), FEWER)
        return self._complete(self.rows.picked(pool.points[rows, 1:], len(rows), seed))

    def sample(self, count: int, seed: int) -> Draws:
        """Fresh draws of q."""
        check_affordable(self.structure.latents, count, FEWER)
        shared = shared_draws(self.q, count, self.seed + 31 * seed + 17)
        found = self.rows.weigh(shared, self.seed + 31 * seed + 17)
        return self._complete(self.rows.with_shared(found.values, shared))

    # ---- verdict and evidence ----------------------------------------------------------------------------------

    @functools.cached_property
    def row_statistics(self) -> RowStatistics:
        """Weights, moments and the amortisation gap on a sample of rows."""
        rows = picked_rows(self.target.rows, ROWS, self.seed)
        return looked_at(self.rows.evaluator, self.q, self.parameters_at, rows, self.seed + 3)

    def khat(self, pool: Pool) -> float:
        """That of all but one in twenty rows."""
        return self.row_statistics.khat

    def checks(self) -> tuple[AbstractCheck, ...]:
        """Row by row, with the amortisation gap, and what rows share."""
        shared = ()
        if self.q.shared.dim:
            weights, _ = smooth(self.rows.looked.log_weights)
            shared = (SharedOfRows(shared_differences(self.q.shared, self.rows.looked.shared, weights)),)
        return (Optimiser(), Rows(self.row_statistics), *shared, *self._generalisation())

    def agreement(self, pool: Pool, draws: Draws) -> Agreement:
        """Of all draws, rows included; the verdict looks at rows one by one instead."""
        return compare(draws, pool.weights, {site.name for site in self.structure.latents})

    def _generalisation(self) -> tuple[AbstractCheck, ...]:
        """What held-out rows say of the parameters, in words."""
        known = self.outcome.estimates
        title = "nats a row that held-out rows lack"
        if not self.target.held:
            networks = known is not None and "network" in known.kinds.values()
            return (Said(title, np.nan, NOT_KNOWN),) if networks else ()
        some = picked_rows(self.target.held, HELD, self.seed), picked_rows(self.target.rows, HELD, self.seed)
        held, own = (self.posterior_of(rows).log_evidence() for rows in some)
        lost = float(own.mean() - held.mean())
        error = float(np.sqrt(held.var() / len(held) + own.var() / len(own)))
        verdict = "the model fits its own rows better" if lost > 2 * error else "no sign of overfitting"
        distance = f"{abs(lost):.2g} ± {error:.1g} {'below' if lost >= 0 else 'above'}"
        words = (
            f"log p of {len(held)} held-out rows is {held.mean():.4g} nats a row, {distance} that of the fit's own: "
            f"{verdict}."
        )
        return (Said(title, lost, words),)

    def exact_moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and sd under q of the latents on the real line, where tables hold all rows."""
        raw = self.rows.looked.raw
        if any(values.shape[1:] != self.structure.sites[name].shape for name, values in raw.items()):
            return {}
        return moments(self.rows, self.approximation)

    def evidence(self, pool: Pool) -> Evidence:
        """L_K with every row weighed by itself; the estimate from all inner draws."""
        khat = pool.khat if self.q.shared.dim else self.row_statistics.khat
        return bounds.evidence(self.rows, pool.even, khat)

    def decompose(self, log_evidence: float, seed: int, num_draws: int | None) -> Decomposition:
        """On fresh draws of all rows."""
        return bounds.decompose(self.rows, self.approximation, log_evidence, seed, num_draws)

    def surgery(self, num_draws: int | None = None) -> Surgery:
        """Mutual information of rows and codes, and the divergence of the aggregate posterior from the prior."""
        return aggregate.surgery(self.rows, self.approximation, num_draws)

    # ---- new rows ----------------------------------------------------------------------------------------------

    def infer(self, new_data: Mapping[str, Any] | None, refine: bool) -> RowPosterior:
        """The posterior of new rows, or of the fit's own."""
        if new_data is None:
            rows = self.target.rows
        else:
            rows, _ = self.target.new_rows(new_data)
        return self.posterior_of(rows, refine)

    def posterior_of(self, rows: Mapping[str, np.ndarray], refine: bool = False) -> RowPosterior:
        """The posterior of rows as the model takes them."""
        evaluator = self.rows.evaluator
        raw = (
            refined(evaluator, self.q, self.parameters_at, rows, self.seed + 61)
            if refine
            else evaluator.encoded(self.q, self.parameters_at, rows)
        )
        return RowPosterior(evaluator, self.q, self.parameters_at, rows, raw, refine, self.seed + 71)

    def latents_for(self, arguments: Mapping[str, Any], count: int, seed: int) -> Draws | None:
        """Draws of the latents of new rows, from their own data, and of what rows share."""
        if any(arguments.get(name) is None for name in self.target.cut):
            return None
        new = {name: np.asarray(arguments[name]) for name in self.target.cut}
        posterior = self.infer(new, False)
        shared = shared_draws(self.q, count, self.seed + 83 + seed)
        found = posterior.evaluator.weigh(self.q, self.parameters_at, posterior.data, shared, seed, posterior.raw)
        return self.rows.with_shared(found.values, shared)

    # ---- files -------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, np.ndarray]:
        """The encoder's arrays by path, the shared factor's by name."""
        return files.parameters(self.q)

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Amortised | None:
        """The family with these arrays; it needs the model, and an encoder of the user's own."""
        return None if target is None else files.restored(parameters, target)

    @staticmethod
    def prepared(model: Any, data: Any, precision: Precision, options: Mapping[str, Any]) -> RowTarget:
        """The rows of a model, closed at its estimates if it has any."""
        return files.prepared(model, data, precision, options)
