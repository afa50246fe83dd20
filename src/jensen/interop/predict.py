"""Posterior predictive draws."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpyro import handlers

from jensen._errors import DataError, UndefinedError
from jensen.math.precision import float_type, working
from jensen.models.analysis import feasible_trace, traced
from jensen.models.compared import refuse_compared
from jensen.models.data_check import check_names, missing, refuse_missing
from jensen.models.door import read
from jensen.models.indices import check_indices
from jensen.models.missing import POINTS
from jensen.models.numpyro import seeded
from jensen.models.one_width import watched
from jensen.models.program import NumPyroProgram
from jensen.models.structure import Structure

if TYPE_CHECKING:
    from jensen.result import Fit


def predict(fit: Fit, new_data: Mapping[str, Any] | None, num_draws: int, seed: int) -> dict[str, np.ndarray]:
    """Run the model forward at posterior draws, with NumPyro's own `Predictive`."""
    from numpyro.infer import Predictive

    answer = fit._attached("predictions")
    program = answer.program
    if program is None:
        raise UndefinedError("A LogDensity has no observed sites to predict.", "", "Write the model in NumPyro.")
    fn, structure = program.fn, fit.structure
    if new_data is None:
        arguments: dict[str, Any] = fit.answer.inputs()
    else:
        arguments = _complete(program, structure, new_data)
    names = [site.name for site in structure.observed]
    if not names:
        raise UndefinedError(
            "The model has no observed sites to predict; its likelihood is a factor.",
            f"Sites: {', '.join(structure.sites)}.",
            "Observe with numpyro.sample(..., obs=y).",
        )
    draws = answer.latents_for(arguments, num_draws, seed) if new_data is not None else None
    if draws is None:
        draws = fit.sample(num_draws, seed=seed)
    dtype = float_type(program.precision)
    with working(program.precision):
        keep = _matching(program, structure, arguments, draws)
        posterior = {name: _as_type(draws[name], dtype) for name in keep}
        forward = handlers.uncondition(watched(fn))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            sampler = Predictive(forward, posterior, num_samples=num_draws, return_sites=names)
            arrays, fixed = _divided(program, arguments)
            out = _run(sampler, jax.random.key(seed), arrays, fixed)
        found = {name: np.asarray(values) for name, values in out.items()}
        unfilled = missing(arguments, {site.data_key for site in structure.observed}) if new_data is not None else []
        if unfilled and _not_a_number(forward, {**posterior, **out}, arrays, fixed):
            refuse_missing(arguments, unfilled[0])
        if unfilled:
            given = {name: values[:POINTS] for name, values in {**posterior, **out}.items()}
            first = {name: values[0] for name, values in given.items()}
            closed = jax.make_jaxpr(lambda some, drawn: _total(forward, {**some, **fixed}, drawn))(arrays, first)
            refuse_compared(closed, arrays, given, unfilled)
    return found


def _run(sampler: Any, key: Any, arrays: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
    """The draws from one compiled program; step by step where NumPyro needs numbers, such as a multinomial's counts."""
    try:
        return jax.jit(lambda key, given: sampler(key, **given, **fixed))(key, arrays)
    except Exception as error:
        try:
            return sampler(key, **arrays, **fixed)
        except Exception:
            raise error from None


def _not_a_number(forward: Any, draws: dict[str, Any], arrays: dict[str, Any], fixed: dict[str, Any]) -> bool:
    """Whether the density of what was drawn is NaN at some of the draws: then it was not drawn from anything."""

    def total(given: dict[str, Any], drawn: dict[str, Any]) -> Any:
        return _total(forward, {**given, **fixed}, drawn)

    some = {name: values[:POINTS] for name, values in draws.items()}
    return not np.isfinite(jax.device_get(jax.jit(jax.vmap(total, (None, 0)))(arrays, some))).all()


def _total(forward: Any, arguments: dict[str, Any], drawn: dict[str, Any]) -> Any:
    """The log density of everything drawn."""
    trace = handlers.trace(handlers.substitute(seeded(forward), data=drawn)).get_trace(**arguments)
    return sum(site["fn"].log_prob(site["value"]).sum() for site in trace.values() if site["type"] == "sample")


def _divided(program: NumPyroProgram, arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(traced arguments, fixed ones), as in the fit; arguments that the fit had not are told by what they hold."""
    names = {k for k, v in arguments.items() if k in program.fixed or not isinstance(v, (np.ndarray, jax.Array, dict))}
    return {k: v for k, v in arguments.items() if k not in names}, {k: arguments[k] for k in names}


def _as_type(values: np.ndarray, dtype: Any) -> np.ndarray:
    return np.asarray(values, dtype if values.dtype.kind == "f" else None)


def _complete(program: NumPyroProgram, structure: Structure, new_data: Mapping[str, Any]) -> dict[str, Any]:
    """New inputs, with the fit's own scalars where they are not given; observed arrays default to None."""
    arguments = read(program.fn, new_data, program.precision)
    outcomes = {site.data_key for site in structure.observed if site.data_key}
    for name, value in program.kwargs.items():
        if name in arguments:
            continue
        if name in outcomes:
            arguments[name] = None
        elif np.ndim(value) == 0:
            arguments[name] = value
    check_names(program.fn, arguments)
    check_indices(program.fn, arguments, program.precision)
    return arguments


def _matching(
    program: NumPyroProgram, structure: Structure, arguments: dict[str, Any], draws: dict[str, np.ndarray]
) -> list[str]:
    """Latents whose shape under the new inputs is that of the fit; the others are drawn from their priors."""
    shapes: dict[str, tuple[int, ...]] = {}
    names = [site.name for site in structure.drawn if site.name in draws]

    arrays, fixed = _divided(program, arguments)

    def run(given: dict[str, Any]) -> None:
        for name, site in feasible_trace(program.fn, {**given, **fixed}).items():
            if site["type"] == "sample":
                shapes[name] = np.shape(site["value"])

    try:
        traced(run, arrays)
    except Exception as error:
        from jensen.models.user_code import blame

        wrapped = blame(error, seeded(program.fn), arguments)
        raise DataError(
            f"The model cannot be run on the new data: {wrapped.what}",
            wrapped.where,
            "Give every input the model needs; the outcome may be left out if the model accepts None for it.",
        ) from error
    return [name for name in names if shapes.get(name) == draws[name].shape[1:]]
