"""`Fit`: what a method found, how it got there, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._base.alone import Kept, alone
from jensen._base.arguments import count_of, number, seed_of
from jensen._base.caution import caution, quiet
from jensen._base.errors import UndefinedError
from jensen._core import AbstractAlgorithm, AbstractCheck, AbstractTarget, Estimates, Outcome, Progress
from jensen._core.estimates import Estimate
from jensen._math.clock import Stopwatch
from jensen._program.structure import Structure

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from jensen._amortised.row_posterior import RowPosterior
    from jensen._conjugate.local_factors import LocalFactors
    from jensen._fit.answers import AbstractAnswer
    from jensen._verdict.check import Report
    from jensen._verdict.evidence import Decomposition, Evidence
    from jensen._verdict.importance import Pool
    from jensen._verdict.states import Probabilities
    from jensen._verdict.surgery import Surgery


@dataclass(frozen=True, eq=False)
class Fit:
    """The result of `jn.fit`.

    Attributes:
        elbo: the bound E_q[log p(x, z) - log q(z)] on fresh draws, `.value` and `.se` in nats.
        status: why it stopped, a sentence. converged: whether the stopping rule was met.
        history: one row per reported step: phase, step, bound (nats), seconds.
        timings: seconds in total, compiling and running; programs compiled; gradient and value evaluations.
        method, seed: how to do it again.
    """

    method: str
    options: dict[str, Any]
    seed: int
    status: str
    converged: bool
    elbo: Estimate
    history: list[dict[str, Any]]
    timings: dict[str, float]
    outcome: Outcome
    structure: Structure
    target: Any = field(repr=False, default=None)
    stored: dict[str, Any] = field(repr=False, default_factory=dict)
    checks: tuple[AbstractCheck, ...] = field(repr=False, default=())

    @classmethod
    def from_outcome(
        cls,
        outcome: Outcome,
        target: Any,
        algorithm: AbstractAlgorithm,
        seed: int,
        history: list[dict[str, Any]],
        watch: Stopwatch,
    ) -> Fit:
        """Measure the bound on fresh draws and pack everything up."""
        from jensen._fit.answers import answer_for

        answer = answer_for(target, outcome, seed)
        try:
            elbo = Estimate(*answer.elbo(seed))
        except KeyboardInterrupt:  # the fit itself is done
            elbo = Estimate(np.nan, np.inf)
            outcome = replace(outcome, status=f"{outcome.status} Interrupted before its bound was measured.")
        timings = {**watch.read(), **_counted(answer.target)}
        return cls(
            algorithm.name,
            dict(vars(algorithm)),
            seed,
            outcome.status,
            outcome.converged,
            elbo,
            history,
            timings,
            outcome,
            answer.structure,
            answer.target,
        )

    def after(self, outcome: Outcome, history: list[dict[str, Any]], timings: dict[str, float]) -> Fit:
        """The same q after a search that has found nothing better: its draws and their verdict stay."""
        timings = {**timings, **_counted(self.target)}
        found = replace(self, status=outcome.status, history=history, timings=timings, outcome=outcome)
        known = {name: value for name, value in vars(self).items() if name in ("pool", "_pool_draws", "_report")}
        vars(found).update(known)
        return found

    @property
    def estimates(self) -> Estimates:
        """Point estimates of what was learned (`numpyro.param` sites and `learn=...`), apart from the posterior.

        Everything else in a fit is conditional on them. Empty where nothing was learned; `.bias` says what the gap of
        the bound does to them.
        """
        return self.outcome.estimates or Estimates({}, {}, True)

    @property
    def q(self) -> Any:
        """The approximation as the method left it: a Gaussian over the unconstrained space, a product of factors."""
        if self.target is not None:
            return self.answer.q
        if self.outcome.q is None:
            self._attached("this approximation")
        return self.outcome.q

    @property
    def approximation(self) -> Any:
        """q over the latents on their own supports, with `log_prob`, `draw` and `exact_entropy`."""
        return self._attached("the approximation on the support").approximation

    @Kept
    def answer(self) -> AbstractAnswer:
        """What this kind of approximation can say about itself; see `jensen._fit.answers`."""
        from jensen._fit.answers import answer_for

        return answer_for(self.target, self.outcome, self.seed)

    def _attached(self, wanted: str) -> AbstractAnswer:
        if self.target is None:
            raise UndefinedError(
                f"A fit loaded from a file needs its model for {wanted}.",
                "",
                "Attach it: fit = jn.load(path).attach(model, data).",
            )
        return self.answer

    @alone()
    def attach(self, model: Any, data: Mapping[str, Any] | None = None, *, encoder: Any = None) -> Fit:
        """The same fit with its model and data again; raises if they are not those of the fit, naming what differs.

        Data in batches cannot be compared, nor those of files of older versions: then the bound, the verdict and
        everything else are measured again, on the data given. `encoder` is the module of an amortised fit that was not
        built by jensen: a file holds its arrays only.
        """
        from jensen._fit.attaching import attached

        return attached(self, model, data, encoder)

    @Kept
    def _fingerprint(self) -> dict[str, Any] | None:
        """What a file remembers of model and data; `None` where an older file did not."""
        from jensen._fit.fingerprint import fingerprint

        return self.stored.get("fingerprint") if self.target is None else fingerprint(self.answer)

    @property
    def cost(self) -> str:
        """Seconds and evaluations, in words."""
        t = self.timings
        counted = [(int(t.get("gradients", 0)), "gradients"), (int(t.get("values", 0)), "values of the log density")]
        evaluations = ", ".join(f"{count:,} {what}" for count, what in counted if count)
        seconds = f"{t['total']:.1f} s, of these {t['compile']:.1f} s compiling and {t['run']:.1f} s running"
        return f"{seconds}; {evaluations}." if evaluations else f"{seconds}."

    # ---- draws -------------------------------------------------------------------------------------------------

    @Kept
    def pool(self) -> Pool:
        """Importance draws from q and a heavier-tailed relative, with weights; computed once."""
        if "pool" in self.stored:
            return self.stored["pool"]
        return self._attached("new draws").settled_pool(self.seed + 1)

    @Kept
    def _pool_draws(self) -> dict[str, np.ndarray]:
        if "draws" in self.stored:
            return self.stored["draws"]
        return self._whole(self._attached("new draws").drawn(self.pool), self.seed)

    def _whole(self, draws: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
        """The draws with what an `obs_mask` leaves unobserved."""
        from jensen._program.imputation import with_imputed

        return with_imputed(self.answer.program, self.structure, draws, seed) if self.target is not None else draws

    @Kept
    def _tables(self) -> dict[bool, Any]:
        """What `summary` has told, raw or not, of latents that are integrated out."""
        return {}

    @Kept
    def _probabilities(self) -> dict[str, Probabilities]:
        return {} if self.target is None else self.answer.probabilities(self.pool, self._pool_draws)

    @alone()
    def sample(self, num_draws: int = 1000, *, seed: int = 0, raw: bool = False) -> dict[str, np.ndarray]:
        """Draws: site -> array (num_draws, ...) on the model's support, deterministic sites included.

        By default the draws are importance-corrected where the verdict is "usable": resampled in proportion to the
        smoothed weights. Where it is "trusted" or "untrusted", and with `raw=True`, they are q's own.
        """
        num_draws, seed = count_of(num_draws, "num_draws"), seed_of(seed)
        corrected = not raw and self.check().verdict == "usable"
        if not raw:
            caution(self)
        if corrected or self.target is None:
            indices = (
                self.pool.resample(num_draws, seed)
                if corrected
                else np.random.default_rng(seed).integers(self.pool.half, size=num_draws)
            )
            if self.target is None:
                whole = {name: self.structure.sites[name].shape for name in self._pool_draws}
                return {n: v[indices] for n, v in self._pool_draws.items() if v.shape[1:] == whole[n]}
            return self._whole(self.answer.resampled(self.pool, self._pool_draws, indices, seed), seed)
        return self._whole(self.answer.sample(num_draws, seed), seed)

    @alone()
    def marginals(self, num_draws: int = 500, *, seed: int = 0) -> dict[str, xr.DataArray]:
        """Posterior probabilities of the discrete latents that were summed out: site -> (..., state).

        p(z = k | x) = E[p(z = k | θ, x)] over draws of the continuous latents θ (by the rule of `sample`); for each θ
        the probability is exact. The coordinate `state` holds the values. Empty where nothing was summed out.
        """
        from jensen._fit.arviz import marginals

        return marginals(self, count_of(num_draws, "num_draws"), seed_of(seed))

    # ---- reports -----------------------------------------------------------------------------------------------

    @alone()
    def check(self) -> Report:
        """The verdict, from independent checks; computed once. See `jensen._verdict.check.Report`."""
        return self._report

    @Kept
    def _report(self) -> Report:
        if "report" in self.stored:
            return self.stored["report"]
        return self._attached("a check").judge(self.pool, self._pool_draws, self.seed + 2, self.checks)

    def with_checks(self, *checks: AbstractCheck) -> Fit:
        """The same fit, judged by further checks too: each may rule a verdict out (`jensen._core.AbstractCheck`)."""
        self._attached("further checks")
        stored = {name: value for name, value in self.stored.items() if name not in ("report", "summary")}
        return replace(self, checks=(*self.checks, *checks), stored=stored)

    @alone()
    def refine(
        self,
        *,
        num_chains: int = 4,
        num_warmup: int = 300,
        num_effective: int = 400,
        num_draws: int = 4000,
        seconds: float | None = None,
        seed: int | None = None,
        progress: bool | Callable[[Progress], None] | None = None,
    ) -> Fit:
        """Go on with NUTS, in coordinates in which this approximation is standard normal, from its draws.

        Returns a fit whose draws are those of the chains, and whose verdict rests on r̂ and effective draws. It ends
        when every unconstrained coordinate has r̂ < 1.01 and `num_effective` effective draws, at `num_draws` draws of
        each chain, or after `seconds`. Interrupted by Ctrl-C, it keeps the rounds that are done. Latents that were
        summed or integrated out are drawn given the others.

        Raises:
            UndefinedError: the fit has no density over unconstrained coordinates to go on with (data in batches,
                discrete latents that are not summed out).
        """
        from jensen._fit.refining import refined
        from jensen._gaussian.nuts import Refinement

        options = Refinement(num_chains, num_warmup, num_effective, num_draws, seconds)
        return refined(self, options, self.seed if seed is None else seed_of(seed), progress)

    @alone()
    def summary(self, var_names: list[str] | None = None, *, raw: bool = False) -> pd.DataFrame:
        """Mean, sd, quantiles and Monte Carlo error of every scalar, by the same rule as `sample`.

        Columns: mean, sd, q5, median, q95, mcse_mean; q_mean and q_sd where the rows are corrected; lr_sd where
        the method gives linear-response covariances (unconstrained sites only). Small discrete latents have a row
        `site[i]=value` for every value: its probability (`mean`) with its Monte Carlo error. `attrs` holds the verdict,
        its reasons and a `caption`; the table of an untrusted fit is headed "untrusted".
        """
        from jensen._verdict.table import captioned, summarise

        if not raw:
            caution(self)
        return captioned(summarise(self, var_names, raw), self)

    @alone()
    def evidence(self) -> Evidence:
        """Bounds on log p(x) and its importance-sampling estimate."""
        if self.target is not None or "report" in self.stored:
            caution(self)
        if "evidence" in self.stored:
            return self.stored["evidence"]
        return self._attached("the evidence").evidence(self.pool)

    @alone()
    def decompose(self, log_evidence: float | None = None, num_draws: int | None = None) -> Decomposition:
        """L = energy + entropy = reconstruction - KL = evidence - gap, in nats.

        `log_evidence` is the exact log p(x) where known; otherwise the estimate of `evidence` stands in.
        """
        count = None if num_draws is None else count_of(num_draws, "num_draws")
        value = self.evidence().log_evidence if log_evidence is None else number(log_evidence, "log_evidence")
        return self._attached("a decomposition").decompose(value, self.seed + 3, count)

    # ---- out of here -------------------------------------------------------------------------------------------

    @alone()
    def to_arviz(self, num_draws: int = 1000, *, log_likelihood: bool = True) -> xr.DataTree:
        """An ArviZ DataTree: posterior, log_likelihood, observed_data, with dims and coords from the plates."""
        from jensen._fit.arviz import to_arviz

        return to_arviz(self, count_of(num_draws, "num_draws"), log_likelihood)

    @alone()
    def predict(
        self,
        new_data: Mapping[str, Any] | None = None,
        *,
        num_draws: int = 1000,
        seed: int = 0,
        new: str | Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Posterior predictive draws of the observed sites: site -> (num_draws, ...).

        Without `new_data`, replicated data at the inputs of the fit. With it, the model is run on the new inputs, and
        the outcome may be left out. A latent may have more entries there: those of the fit are kept, and the new ones
        are drawn from p(new | kept, all else), for new levels of a group, further steps of a series (a random walk
        goes on from its last value) and unobserved places of a Gaussian field. Levels keep their numbers, steps and
        places come first as they were in the fit; an effect of the row itself is kept where the row has the inputs
        that it had in the fit, and is drawn anew where they are others or there are fewer rows without any. Latents
        named in `new` are drawn anew in all their entries: a new group in the place of a fitted one.

        Raises `DataError` for new data that the model does not take or that leave open which entries are new, and
        `UndefinedError` where the law of new entries is not known.
        """
        from jensen._fit.predict import predict

        caution(self)
        return predict(self, new_data, count_of(num_draws, "num_draws"), seed_of(seed), new)

    @alone()
    def infer(self, new_data: Mapping[str, Any] | None = None, *, refine: bool = False) -> RowPosterior | LocalFactors:
        """The posterior of new rows' latents, without a refit: q of what rows share stays as it was fitted.

        An amortised fit asks its encoder, and with `refine` raises each row's factor further by gradient steps
        (semi-amortised; some seconds). A fit by coordinate ascent (cavi, svi) sets the factors of the rows to their
        optimum: for a mixture, `fit.infer(rows).probabilities()` are the responsibilities. `new_data` holds every
        argument with one entry for each row; without it the fit's own rows are meant.
        """
        from jensen._data.data_check import as_mapping, convert

        answer = self._attached("inference for new rows")
        new = None if new_data is None else convert(as_mapping(new_data), self.target.precision)
        return answer.infer(new, refine)

    @alone()
    def surgery(self, num_draws: int | None = None) -> Surgery:
        """L / N = reconstruction - mutual information - marginal divergence, for amortised fits, in nats a row."""
        count = None if num_draws is None else count_of(num_draws, "num_draws")
        return self._attached("the surgery of the bound").surgery(count)

    @alone()
    @quiet()
    def save(self, path: Any) -> None:
        """Write everything but the model to one file; read it with `jn.load`. No pickle is involved."""
        from jensen._fit.saving import save

        save(self, path)

    @alone()
    @quiet()
    def report(self, path: Any) -> None:
        """Write a self-contained HTML report: plan, summary, verdict and plots."""
        from jensen._report.html import write

        write(self, path)

    def __repr__(self) -> str:
        known = self.stored.get("report") or vars(self).get("_report")
        verdict = known.verdict if known else "not checked yet"
        return (
            f"Fit(method={self.method!r}, verdict={verdict!r}, elbo={self.elbo}, converged={self.converged}, "
            f"status={self.status!r})"
        )


def _counted(target: AbstractTarget) -> dict[str, float]:
    """Evaluations of its log density so far."""
    return {"gradients": float(target.gradients), "values": float(target.values)}
