"""The one loop: analyse the model, drive the algorithm, keep the best q, stop on Ctrl-C with what there is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jensen._base.alone import alone
from jensen._base.arguments import number, seed_of
from jensen._base.errors import ModelError, OptionError, ParameterSites, nearest
from jensen._core import AbstractAlgorithm, Progress
from jensen._data.sources import AbstractSource, mapped
from jensen._fit.loop import drive
from jensen._fit.methods import resolve
from jensen._fit.progress import reporter
from jensen._fit.result import Fit
from jensen._learning import Learning
from jensen._math.clock import Stopwatch
from jensen._math.precision import Precision, default_precision, working
from jensen._model.door import opened
from jensen._model.parameters import check_starts, find_parameters
from jensen._program.contract import AbstractProgram
from jensen._program.indices import checked
from jensen._program.programs import as_program
from jensen._program.purity import repeatable

Model = Callable[..., Any] | AbstractProgram


@alone()
def fit(
    model: Model,
    data: Mapping[str, Any] | AbstractSource | None = None,
    method: str | AbstractAlgorithm = "auto",
    *,
    seed: int = 0,
    learn: Iterable[str] | Mapping[str, Any] = (),
    progress: bool | Callable[[Progress], None] | None = None,
    precision: Precision | None = None,
    budget: float | None = None,
) -> Fit:
    """Approximate the posterior p(z | x) of a model by variational inference.

    There is no learning rate, step count or guide to choose. The result carries its own verdict: see `Fit.check`.

    Args:
        model: a NumPyro model written for the full data, or a `jn.LogDensity`.
        data: argument names of the model -> arrays, which may be memory-mapped; or a source of batches, `jn.Batches` or
            `jn.Ragged`, for "svi" (which "auto" then is).
        method: "auto", "advi", "cavi", "svi", "naive", "laplace", "pathfinder", or a method object such as
            `jn.advi(family="full_rank")`.
        seed: the same seed gives the same bits.
        learn: arguments in `data` and latent sites to maximise over instead (every `numpyro.param` site is, unasked):
            hyperparameters by empirical Bayes. A mapping gives the constraint of an argument where the model does not
            show it. The values are in `fit.estimates`; everything else is conditional on them.
        progress: a live line in the terminal (default: when there is one), or a function called with each `Progress`.
        precision: "double" or "single"; default double on CPU and single on accelerators. The user's JAX flags stay.
        budget: seconds after which the fit ends with the best approximation so far, analysis and compilation included.
            The clock is looked at after each piece of work, and not before there is an approximation, so that one step
            or one compilation may run over. Which q that is depends on the machine's speed, not on the seed alone.

    Returns:
        A `Fit`. Stopped by Ctrl-C or by its budget, it holds the best approximation found so far and says so in
        `status`.

    Raises:
        ModelError, DataError, OptionError: before any compilation where the input allows it, naming site, shape or key.

    Example:
        >>> import jensen as jn, numpyro, numpyro.distributions as dist
        >>> def model(y):
        ...     mu = numpyro.sample("mu", dist.Normal(0, 10))
        ...     numpyro.sample("y", dist.Normal(mu, 1), obs=y)
        >>> jn.fit(model, {"y": [1.0, 2.0, 3.0]}).check().verdict
        'trusted'
    """
    watch = Stopwatch()
    algorithm = resolve(method)
    seed, seconds = _checked(seed, precision, progress, budget)
    precision = precision or default_precision()
    data = opened(model, data, precision)
    model, check_again = repeatable(model, data, precision)
    prepared = _prepared(algorithm, model, data, learn, precision)
    found, before = _first(algorithm, *prepared, check_again, seed, progress, watch, seconds), None
    while found is not before:
        before, found = found, _further(found, algorithm, progress, watch, seconds)
    left = seconds - watch.read()["total"]
    if algorithm.goes_on and left > 0 and found.check().verdict == "untrusted":
        return found.refine(progress=progress, seconds=None if budget is None else left)
    return found


def _first(
    algorithm: AbstractAlgorithm,
    loop: AbstractAlgorithm | Learning,
    target: Any,
    check_again: Callable[[], None],
    seed: int,
    progress: Any,
    watch: Stopwatch,
    seconds: float,
) -> Fit:
    """The fit as the algorithm first gives it; `check_again` runs the model once more, to see that it is the same."""
    with reporter(progress, algorithm.name) as report, working(target.precision):
        outcome, history = drive(loop, target, seed, report, watch, seconds)
    try:
        check_again()
    except KeyboardInterrupt:  # the fit itself is done
        outcome = replace(outcome, status=f"{outcome.status} Interrupted before the model was run once more.")
    target = target if outcome.target is None else outcome.target
    return Fit.from_outcome(outcome, target, algorithm, seed, history, watch)


def _further(found: Fit, algorithm: AbstractAlgorithm, progress: Any, watch: Stopwatch, budget: float) -> Fit:
    """The fit, or where it is untrusted and there is time what its algorithm would try next."""
    outcome = found.outcome
    if outcome.further is None or watch.read()["total"] > budget:
        return found
    history = list(found.history)
    try:
        if found.check().verdict != "untrusted":
            return found
        run = outcome.further(replace(outcome, further=None))
        with reporter(progress, algorithm.name) as report, working(found.target.precision):
            while watch.read()["total"] <= budget:
                item = next(run)
                seconds = watch.read()["total"]
                history.append({"phase": item.phase, "step": item.step, "bound": item.bound, "seconds": seconds})
                report(item, seconds)
        stopped = "The budget ended"
    except StopIteration as stop:
        if stop.value.q is outcome.q:
            return found.after(stop.value, history, watch.read())
        target = found.target if stop.value.target is None else stop.value.target
        return Fit.from_outcome(stop.value, target, algorithm, found.seed, history, watch)
    except KeyboardInterrupt:
        stopped = "The user interrupted"
    note = f"{stopped} the search for something better."
    ended = replace(outcome, further=None)
    return replace(found, status=f"{found.status} {note}", history=history, outcome=ended)


def _prepared(
    algorithm: AbstractAlgorithm, model: Model, data: Any, learn: Any, precision: Precision
) -> tuple[AbstractAlgorithm | Learning, Any]:
    """(what to run, what to run it on); a model with parameters shows itself when it is analysed."""
    streams = issubclass(type(data), AbstractSource)
    if streams:
        _check_streams(algorithm, model, learn)
    elif not (algorithm.name == "svi" and mapped(data, None)):  # whose batches are checked as they come
        data = checked(model, data, precision)
    handled = as_program(model).handled
    if learn and not handled:
        raise OptionError(
            f"A {type(model).__name__} has no parameters to learn.", "Argument: learn.", "Write the model in NumPyro."
        )
    if not learn:
        try:
            return algorithm, algorithm.prepare(model, data, precision)
        except ParameterSites:
            if streams:
                raise
        except ModelError:
            if handled and callable(model):
                check_starts(model, data, precision)
            raise
    assert callable(model)  # a program that has param sites is one of NumPyro's
    loop = Learning(algorithm, model, find_parameters(model, data, learn, precision))
    return loop, loop.prepare(data, precision)


def _check_streams(algorithm: AbstractAlgorithm, model: Model, learn: Any) -> None:
    """Raise unless the method takes its data in batches."""
    remedy = "Use method='svi' or 'auto', or pass all rows as arrays, memory-mapped ones if need be."
    if not algorithm.streams:
        raise OptionError(
            f"The method '{algorithm.name}' needs all rows at once, and the data come in batches.",
            "Arguments: data, method.",
            remedy,
        )
    if learn or not as_program(model).handled:
        what = "Parameters are not learned" if learn else f"The rows of a {type(model).__name__} cannot be told apart"
        raise OptionError(f"{what} where the data come in batches.", "Argument: data.", "Pass all rows as arrays.")


def _checked(seed: Any, precision: Any, progress: Any, budget: Any) -> tuple[int, float]:
    """The seed as Python's integer, whose powers do not overflow; the seconds that there are."""
    found = seed_of(seed)
    if precision not in (None, "double", "single"):
        raise OptionError(
            f"There is no precision {precision!r}.",
            "Argument: precision.",
            nearest(str(precision), ("double", "single")),
        )
    seconds = np.inf if budget is None else number(budget, "budget", low=0.0, open_low=True)
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise OptionError(f"progress must be True, False or a function, got {progress!r}.", "Argument: progress.")
    return found, seconds
