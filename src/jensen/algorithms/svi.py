"""Stochastic variational inference: natural-gradient steps on minibatches of one plate."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import ModelError, OptionError
from jensen.algorithms.coordinate.ascent import State
from jensen.algorithms.coordinate.fit import ConjugateFit, finished
from jensen.algorithms.coordinate.plated import PlatedAscent
from jensen.algorithms.coordinate.solution import solution
from jensen.core.algorithm import AbstractAlgorithm, Outcome, Progress, Run
from jensen.math.precision import Precision, working
from jensen.models.conjugacy import ConjugateModel, ConjugateTarget, conjugate_target
from jensen.models.conjugacy.plates import PlateSplit, split

PATIENCE = 3
"""Epochs without a gain of `tolerance` nats per row before the fit stops."""


class SVI(AbstractAlgorithm):
    """Natural-gradient steps λ ← (1 - ρ_t) λ + ρ_t λ̂ on the global factors, ρ_t = (t + delay)**-forgetting.

    λ̂ is the coordinate update that the minibatch alone would give if it stood for all N rows: the local factors of
    its B rows are set to their optimum and their statistics are weighted N / B (Hoffman, Blei, Wang and Paisley 2013,
    algorithm in section 2.4). λ̂ - λ is the natural gradient, unbiased for one global block. With B = N and ρ = 1 a
    step is a sweep of coordinate ascent. After every epoch the exact bound is computed once over all rows; the best
    epoch is kept.

    Attributes:
        batch_size: rows B of a minibatch, at most N.
        forgetting: κ in (1/2, 1], delay: τ ≥ 0, of the step sizes.
        max_epochs: passes over the rows.
        tolerance: stop when the best bound has gained less than this many nats per observed scalar in three epochs.
        plate: the plate to subsample; `None` takes the largest one that can be split.

    Example:
        >>> import numpy as np, numpyro, numpyro.distributions as dist
        >>> def coins(y):
        ...     with numpyro.plate("kind", 2):
        ...         p = numpyro.sample("p", dist.Beta(1, 1))
        ...     with numpyro.plate("row", len(y)):
        ...         k = numpyro.sample("k", dist.Categorical(np.ones(2) / 2))
        ...         numpyro.sample("y", dist.Binomial(10, p[k]), obs=y)
        >>> counts = np.random.default_rng(0).binomial(10, np.repeat([0.1, 0.9], 50))
        >>> fit = SVI(batch_size=20).fit_conjugate(coins, {"y": counts})
        >>> [round(float(p), 1) for p in sorted(fit.means()["p"])]
        [0.1, 0.9]
    """

    name: ClassVar[str] = "svi"
    batch_size: int = 256
    forgetting: float = 0.7
    delay: float = 1.0
    max_epochs: int = 200
    tolerance: float = 1e-5
    plate: str | None = None

    def __check_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}.", remedy="Use at least one row.")
        if not 0.5 < self.forgetting <= 1.0:
            raise OptionError(f"forgetting is {self.forgetting}.", remedy="The steps converge for values in (0.5, 1].")
        if self.delay < 0.0:
            raise OptionError(f"delay is {self.delay}.", remedy="Use zero or a positive number.")
        if self.max_epochs < 1 or not self.tolerance > 0:
            raise OptionError("max_epochs and tolerance must be positive.")

    def fit_conjugate(
        self,
        model: Callable[..., Any],
        data: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        precision: Precision = "double",
    ) -> ConjugateFit:
        """Analyse a NumPyro model, written for the full data, and fit it by minibatches of one plate."""
        with working("double"):
            return finished(self.run(self.prepare(model, data, precision), seed))

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> ConjugateTarget:
        """The expected log joint with its blocks."""
        return conjugate_target(model, data, precision=precision)

    def run(self, target: ConjugateTarget, seed: int) -> Run:
        """Fit the analysed model, yielding the exact bound after every epoch."""
        parts = self._split(target.model)
        if self.batch_size > parts.size:
            raise OptionError(
                f"batch_size is {self.batch_size}, but plate '{parts.plate}' has {parts.size} rows.",
                remedy="Use at most as many rows as there are.",
            )
        rng = np.random.default_rng(seed)
        ascent = PlatedAscent(parts)
        state = ascent.starts(rng, 1, 1)[0]
        epoch = jax.jit(partial(_epoch, ascent, self.batch_size))
        steps, best, bests = 0.0, state, [state.elbo]
        yield Progress("ascent", 0, state.elbo)
        for number in range(1, self.max_epochs + 1):
            count = parts.size // self.batch_size
            rows = rng.permutation(parts.size)[: count * self.batch_size].reshape(count, self.batch_size)
            rates = (steps + 1.0 + np.arange(count) + self.delay) ** -self.forgetting
            steps += count
            moments, naturals, after, inside = epoch(
                state.moments, state.naturals, ascent.arrays, rows, np.minimum(rates, 1.0)
            )
            ascent.check_inside(np.asarray(inside), naturals)
            state = State(moments, naturals, (ascent.finite(float(after)),), number)
            best = state if state.elbo > best.elbo else best
            bests.append(best.elbo)
            yield Progress("ascent", number, state.elbo, partial(solution, ascent, best, target))
            if number >= PATIENCE and bests[-1] - bests[-1 - PATIENCE] < self.tolerance * target.model.rows:
                return self._outcome(target, ascent, best, True, number)
        return self._outcome(target, ascent, best, False, self.max_epochs)

    def _split(self, model: ConjugateModel) -> PlateSplit:
        plates = {p.name: p.size for site in model.sites.values() for p in site.plates}
        for plate in sorted(plates, key=lambda name: -plates[name]):
            parts = split(model, plate) if self.plate in (None, plate) else None
            if parts is not None and parts.shared:
                return parts
        raise ModelError(
            f"No plate of this model can be subsampled{f': plate {self.plate!r}' if self.plate else ''}.",
            f"Plates: {', '.join(f'{n!r} ({s})' for n, s in plates.items()) or 'none'}.",
            "One plate must hold local latents that depend on the global ones only, and the data row by row; "
            "use cavi otherwise.",
        )

    def _outcome(
        self, target: ConjugateTarget, ascent: PlatedAscent, state: State, converged: bool, epochs: int
    ) -> Outcome:
        status = (
            f"Converged after {epochs} epochs: three epochs gained less than {self.tolerance:g} nats per row."
            if converged
            else f"Stopped after {epochs} epochs, the bound still rising. Allow more with max_epochs."
        )
        ascent.check_rounding(state)
        certificate = {"elbo": state.elbo, "epochs": float(epochs), "saddle": 0.0}
        return Outcome(solution(ascent, state, target), converged, status, certificate)


def _epoch(
    ascent: PlatedAscent, batch_size: int, moments: Any, naturals: Any, arrays: Any, rows: Any, rates: Any
) -> Any:
    """One step for each row of `rows`; then the exact bound over all rows, at the locals' optimum."""

    def step(carry: Any, batch: Any) -> Any:
        moments, naturals, inside = carry
        chosen, rate = batch
        moments, naturals, ok = ascent.step(moments, naturals, ascent.chosen(arrays, chosen), batch_size, rate)
        return (moments, naturals, inside & ok), None

    start = (moments, naturals, jnp.ones(len(ascent.order), bool))
    (moments, naturals, inside), _ = jax.lax.scan(step, start, (rows, rates))
    return moments, naturals, ascent.bound(moments, naturals, arrays), inside
