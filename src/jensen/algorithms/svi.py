"""Stochastic variational inference: natural-gradient steps on minibatches of one plate, then exact sweeps."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np

from jensen._errors import DataError, OptionError
from jensen.algorithms.coordinate.fit import ConjugateFit, finished
from jensen.algorithms.coordinate.minibatch import Minibatches, subsampled
from jensen.algorithms.coordinate.polish import polished
from jensen.algorithms.coordinate.streamed import LOOSE, Stream, above, begun, counted, reached
from jensen.core.algorithm import AbstractAlgorithm, Outcome, Progress, Run
from jensen.math.precision import Precision, working
from jensen.models.batches import AbstractSource, Rows
from jensen.models.conjugacy import ConjugateTarget, Moments, Naturals, conjugate_target

QUIET = 1e-3
"""Nats per observed scalar: an epoch that gains less hands over to exact sweeps."""
LOCAL_TOLERANCE = 1e-4
"""Nats a row by which the last round over several local blocks may still move them."""


class SVI(AbstractAlgorithm):
    """Natural-gradient steps λ ← (1 - ρ_t) λ + ρ_t λ̂ on the global factors, ρ_t = (t + delay)**-forgetting.

    λ̂ is the coordinate update that the minibatch alone would give if it stood for all N rows: the local factors of
    its B rows are set to their joint optimum and their statistics are weighted N / B (Hoffman, Blei, Wang and Paisley
    2013, algorithm in section 2.4). λ̂ - λ is the natural gradient, unbiased for one global block. With B = N and
    ρ = 1 a step is a sweep of coordinate ascent.

    When an epoch gains little, exact sweeps over all rows take over (batch by batch, nothing is held in memory),
    extrapolated geometrically. They stop when the gain still to come, from the last gain and the
    rate at which the steps shrink, is below `tolerance`: only then is the fit said to have converged. Data that can
    be read once only cannot be swept, and their fit never says so.

    Attributes:
        batch_size: rows B of a minibatch, at most N; not used where the data come in batches.
        forgetting: κ in (1/2, 1], of the step sizes.
        delay: τ ≥ 0; `None`: 1, and more where a batch has fewer observed scalars than the globals have parameters, by
            how many times: the first steps would otherwise settle on what is peculiar to the first batches.
        averaging: whether λ is averaged over the last epoch of steps before it is used (Polyak and Juditsky 1992).
        max_epochs: passes over the rows, sweeps included.
        tolerance: gain still to come, in nats per observed scalar, that is let go.
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
    delay: float | None = None
    averaging: bool = True
    max_epochs: int = 200
    tolerance: float = 1e-5
    plate: str | None = None

    def __check_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}.", remedy="Use at least one row.")
        if not 0.5 < self.forgetting <= 1.0:
            raise OptionError(f"forgetting is {self.forgetting}.", remedy="The steps converge for values in (0.5, 1].")
        if self.delay is not None and self.delay < 0.0:
            raise OptionError(f"delay is {self.delay}.", remedy="Use zero or a positive number.")
        if self.max_epochs < 1 or not self.tolerance > 0:
            raise OptionError("max_epochs and tolerance must be positive.")

    def fit_conjugate(
        self,
        model: Callable[..., Any],
        data: Mapping[str, Any] | AbstractSource | None = None,
        seed: int = 0,
        *,
        precision: Precision = "double",
    ) -> ConjugateFit:
        """Analyse a NumPyro model, written for the full data, and fit it by minibatches of one plate.

        `data` maps the model's arguments to arrays, or is a source of batches (`Batches`, `Ragged`). Memory-mapped
        arrays are read batch by batch. From a source, q holds the global latents only.
        """
        source = data if isinstance(data, AbstractSource) else self._mapped(data)
        target = self.prepare(model, data, precision) if source is None else Stream(model, source, precision)
        with working(precision):
            return finished(self.run(target, seed))

    def prepare(self, model: Any, data: Any, precision: Precision) -> ConjugateTarget:
        """The expected log joint with its blocks, of data in memory."""
        if isinstance(data, AbstractSource) or self._mapped(data) is not None:
            raise DataError(
                "A `Fit` checks itself on all rows, which a source of batches does not hold.",
                "Argument: data.",
                "Use jn.svi(...).fit_conjugate(model, data), or pass arrays in memory.",
            )
        return conjugate_target(model, data, precision=precision)

    def run(self, target: ConjugateTarget | Stream, seed: int) -> Run:
        """Fit the analysed model, yielding estimates of the bound and, from the sweeps, the exact bound."""
        if isinstance(target, Stream):
            fn, source, precision, plate = target.fn, target.source, target.precision, self.plate
        else:
            parts = subsampled(target.model, self.plate)
            fn, precision, plate = target.program.fn, target.precision, parts.plate
            source = Rows(target.program.kwargs, parts.size, self.batch_size)
        batches = Minibatches(fn, precision, LOCAL_TOLERANCE, plate)
        whole = None if isinstance(target, Stream) else target
        return self._fit(batches, source, np.random.default_rng(seed), whole)

    def _mapped(self, data: Any) -> AbstractSource | None:
        """The rows of memory-mapped arrays."""
        if not isinstance(data, Mapping):
            return None
        sizes = {len(v) for v in data.values() if isinstance(v, np.memmap) and v.ndim}
        return Rows(data, max(sizes), self.batch_size) if sizes else None

    def _fit(
        self, batches: Minibatches, source: AbstractSource, rng: np.random.Generator, target: ConjugateTarget | None
    ) -> Run:
        batches.first(source.example())
        size = counted(source, batches)
        moments, naturals = begun(batches, source, rng, size)
        scalars = batches.model.rows * size / batches.rest.rows
        moments, naturals, epochs = yield from self._steps(
            batches, source, rng, size, scalars, moments, naturals, target
        )
        if not source.repeatable:
            factors = reached(batches, None, naturals)
            status = (
                "The data were read once, in steps. One pass cannot show that nothing is left to gain: "
                "pass data that can be read again to sweep to convergence."
            )
            return Outcome(factors, False, status, {"elbo": np.nan, "epochs": 1.0, "saddle": 0.0})
        sweeps = max(2, self.max_epochs - epochs)
        found = yield from polished(batches, source, moments, naturals, scalars, self.tolerance, sweeps)
        saddle = False
        while found.converged and found.sweeps < sweeps:
            pushed = above(batches, source, found, rng, size, 10.0 * self.tolerance * scalars)
            if pushed is None:
                break
            saddle = True
            more = yield from polished(batches, source, *pushed, scalars, self.tolerance, sweeps - found.sweeps)
            if more.elbo <= found.elbo:
                break
            found = replace(more, sweeps=found.sweeps + more.sweeps)
        q = reached(batches, target, found.naturals)
        certificate = {
            "elbo": found.elbo,
            "epochs": float(epochs + found.sweeps),
            "sweeps": float(found.sweeps),
            "to_gain": found.to_gain,
            "saddle": float(saddle),
        }
        return Outcome(q, found.converged, self._status(epochs, found, scalars), certificate)

    def _steps(
        self,
        batches: Minibatches,
        source: AbstractSource,
        rng: np.random.Generator,
        size: int,
        scalars: float,
        moments: Moments,
        naturals: Naturals,
        target: ConjugateTarget | None,
    ) -> Generator[Progress, None, tuple[Moments, Naturals, int]]:
        """Epochs of natural-gradient steps, until one gains no more than a little."""
        step, before, epochs, mean = 0, -np.inf, 0, naturals
        delay = self.delay
        while epochs < max(2, self.max_epochs // 2):
            epochs += 1
            estimates: list[Any] = []
            mean, inside = naturals, []
            for count, batch in enumerate(source.epoch(rng), 1):
                step += 1
                if delay is None:
                    delay = 1.0 + batches.parameters / batches.entries_of(batch)
                rate = min(1.0, (step + delay) ** -self.forgetting)
                sums = batches.gather(moments, batch, size, LOOSE)
                moments, naturals, estimate, _, ok = batches.update(moments, naturals, sums, rate)
                estimates.append(estimate)
                inside.append(ok)
                mean = batches.averaged(mean, naturals, np.asarray(1.0 / count)) if self.averaging else naturals
                if step & (step - 1) == 0 or step % 16 == 0:
                    yield Progress("minibatch", step, float(estimate), partial(reached, batches, target, naturals))
            batches.check_inside(np.all(np.asarray(inside), axis=0), naturals)
            values = np.asarray(jax.device_get(estimates))
            now = float(values.mean())  # over the same rows in every epoch: batches differ by much more than epochs
            if not source.repeatable or now - before < QUIET * scalars:
                break
            before = now
        if self.averaging:
            naturals = mean
            moments, ok = batches.moments_of(naturals)
            batches.check_inside(np.asarray(ok), naturals)
        return moments, naturals, epochs

    def _status(self, epochs: int, found: Any, scalars: float) -> str:
        spent = f"{epochs} epochs of steps and {found.sweeps} exact sweeps"
        if found.converged:
            return f"Converged after {spent}: about {found.to_gain / scalars:.1e} nats per row are still to come."
        if not np.isfinite(found.to_gain):
            return f"Stopped after {spent}, the bound still rising. Allow more with max_epochs."
        return (
            f"Stopped after {spent}, with about {found.to_gain:.3g} nats ({found.to_gain / scalars:.1e} per row) "
            "still to gain. Allow more with max_epochs."
        )
