"""Stochastic variational inference: natural-gradient steps on minibatches of one plate, then exact sweeps."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from jensen._base.errors import JensenError, ModelError, OptionError
from jensen._conjugate.algebra import ConjugateTarget, conjugate_target
from jensen._conjugate.coordinate.batch_starts import above, begun, moved, placed
from jensen._conjugate.coordinate.fit import ConjugateFit, finished
from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._conjugate.coordinate.polish import Polished, polished
from jensen._conjugate.coordinate.shape import not_by_rows, splits
from jensen._conjugate.coordinate.steps import Steps, steps
from jensen._conjugate.coordinate.stream import StreamTarget, reached, stream_target
from jensen._core import AbstractAlgorithm, Certificate, Outcome
from jensen._core.algorithm import Run
from jensen._data.sources import AbstractSource, Rows, mapped
from jensen._math.precision import Precision, working
from jensen._program.indices import checked

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

    Rows without latents (a regression) are subsampled too. What they say to the globals does not depend on q, so that
    one pass collects it for all exact sweeps.

    The data are arrays in memory, memory-mapped arrays (read batch by batch), or a source: `jn.Batches`, `jn.Ragged`.
    Unless they are in memory, q holds the latents outside the plate only; those of the rows are integrated out
    wherever the fit judges itself. The model is written for all rows; that a batch can stand for them is checked at
    the start, on NumPyro's own densities.

    Attributes:
        batch_size: rows B of a minibatch, at most N; `None`: 256, or all where there are fewer. Not used where the
            data come in batches.
        forgetting: κ in (1/2, 1], of the step sizes.
        delay: τ ≥ 0; `None`: 1, and more where a batch has fewer observed scalars than the globals have parameters, by
            how many times: the first steps would otherwise settle on what is peculiar to the first batches.
        averaging: whether λ is averaged over the last epoch of steps before it is used (Polyak and Juditsky 1992).
        max_epochs: passes over the rows, sweeps included.
        tolerance: gain still to come, in nats per observed scalar, that is let go.
        plate: the plate to subsample; `None` takes the largest one that can be split.
        moves: whether components are merged, dissolved and split on some rows, before the steps and after the sweeps,
            where that raises the bound (see `CAVI`).

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
    streams: ClassVar[bool] = True
    batch_size: int | None = None
    forgetting: float = 0.7
    delay: float | None = None
    averaging: bool = True
    max_epochs: int = 200
    tolerance: float = 1e-5
    plate: str | None = None
    moves: bool = True

    def __check_init__(self) -> None:
        if not 0.5 < self.forgetting <= 1.0:
            raise OptionError(f"forgetting is {self.forgetting}.", remedy="The steps converge for values in (0.5, 1].")
        if self.delay is not None and self.delay < 0.0:
            raise OptionError(f"delay is {self.delay}.", remedy="Use zero or a positive number.")
        if not self.tolerance > 0:
            raise OptionError(f"tolerance is {self.tolerance}.", remedy="Give a positive number of nats per row.")

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
        if not isinstance(data, AbstractSource) and mapped(data, self.batch_size) is None:
            data = checked(model, data, precision)
        target = self.prepare(model, data, precision)
        with working(precision):
            return finished(self.run(target, seed))

    def prepare(self, model: Any, data: Any, precision: Precision) -> ConjugateTarget | StreamTarget:
        """The expected log joint with its blocks: of data in memory, or of the first batch."""
        given: Any = data
        source = given if isinstance(given, AbstractSource) else mapped(data, self.batch_size)
        if source is not None:
            return stream_target(model, source, precision, LOCAL_TOLERANCE, self.plate)
        return conjugate_target(model, data, precision=precision)

    def run(self, target: ConjugateTarget | StreamTarget, seed: int, init: Mapping[str, Any] | None = None) -> Run:
        """Fit the analysed model, yielding estimates of the bound and, from the sweeps, the exact bound.

        `init` gives starting values of some global latents on their own supports.
        """
        rng = np.random.default_rng(seed)
        if isinstance(target, StreamTarget):
            return (yield from self._fit(target.batches, target.source, rng, target))
        batches, source = self._minibatches(target)
        return (yield from self._fit(batches, source, rng, target, init))

    def _minibatches(self, target: ConjugateTarget) -> tuple[Minibatches, Rows]:
        """Batches of the rows in memory: of the plate with latents that can be subsampled, or else of one with data."""
        model = target.model
        parts = next(splits(model, self.plate, False), None)
        holding = {p.name: p.size for s in model.sites.values() if s.observed for p in s.plates}
        largest = sorted((n for n in holding if self.plate in (None, n)), key=lambda n: -holding[n])
        tried = [(name, holding[name]) for name in largest] if parts is None else [(parts.plate, parts.size)]
        refused: JensenError | None = None
        for plate, size in tried:
            source = Rows(target.program.kwargs, size, self.batch_size)
            batches = Minibatches(target.program.fn, target.precision, LOCAL_TOLERANCE, plate, size=size, checked=True)
            try:
                batches.first(source.example())
            except ModelError as error:
                refused = refused or error
                continue
            return batches, source
        raise refused or not_by_rows(model, self.plate)

    def _fit(
        self,
        batches: Minibatches,
        source: AbstractSource,
        rng: np.random.Generator,
        target: ConjugateTarget | StreamTarget,
        init: Mapping[str, Any] | None = None,
    ) -> Run:
        assert batches.size is not None  # counted by now
        size, scalars = batches.size, batches.scalars
        state = placed(batches, source, rng, size, init) if init else begun(batches, source, rng, size, self.moves)
        stepped = yield from steps(
            batches,
            source,
            rng,
            target,
            state,
            scalars,
            delay=self.delay,
            forgetting=self.forgetting,
            averaging=self.averaging,
            most=max(2, self.max_epochs // 2),
        )
        if not source.repeatable:
            return _once(reached(batches, target, stepped.naturals), stepped, size)
        most = max(2, self.max_epochs - stepped.epochs)
        write = partial(reached, batches, target)
        found = yield from polished(
            batches, source, stepped.moments, stepped.naturals, scalars, self.tolerance, most, write
        )
        saddle = False
        while found.converged and found.sweeps < most:
            pushed = above(batches, source, found, rng, size, 10.0 * self.tolerance * scalars)
            saddle |= pushed is not None
            if pushed is None and self.moves and not init:
                pushed = moved(batches, source, found, rng, size)
            if pushed is None:
                break
            left = most - found.sweeps
            more = yield from polished(batches, source, *pushed, scalars, self.tolerance, left, write, found.reported)
            if more.elbo <= found.elbo:
                break
            found = replace(more, sweeps=found.sweeps + more.sweeps)
        certificate = Certificate(
            elbo=found.elbo,
            epochs=float(stepped.epochs + found.sweeps),
            sweeps=float(found.sweeps),
            to_gain=found.to_gain,
            saddle=saddle,
        )
        status = _status(stepped.epochs, found, scalars)
        return Outcome(reached(batches, target, found.naturals), found.converged, status, certificate)


def _once(q: Any, stepped: Steps, size: int) -> Outcome:
    """The outcome of a single pass: its bound is that of the later batches, each taken before its step."""
    late = stepped.estimates[len(stepped.estimates) // 2 :]
    error = float(late.std(ddof=1) / np.sqrt(len(late))) if len(late) > 1 else np.inf
    part = "" if stepped.rows == size else f" These were {stepped.rows} of the {size} rows."
    status = (
        f"The data were read once, in steps.{part} One pass cannot show that nothing is left to gain: "
        "pass data that can be read again to sweep to convergence."
    )
    certificate = Certificate(elbo=float(late.mean()), elbo_se=error, epochs=1.0, read_once=True)
    return Outcome(q, False, status, certificate)


def _status(epochs: int, found: Polished, scalars: float) -> str:
    spent = f"{epochs} epochs of steps and {found.sweeps} exact sweeps"
    if found.converged:
        return f"Converged after {spent}: about {found.to_gain / scalars:.1e} nats per row are still to come."
    if not np.isfinite(found.to_gain):
        return f"Stopped after {spent}, the bound still rising. Allow more with max_epochs."
    return (
        f"Stopped after {spent}, with about {found.to_gain:.3g} nats ({found.to_gain / scalars:.1e} per row) "
        "still to gain. Allow more with max_epochs."
    )
