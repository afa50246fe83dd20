"""Posterior predictive draws."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jensen._errors import DataError, UndefinedError
from jensen.math.precision import float_type, working
from jensen.models.analysis import feasible_trace
from jensen.models.data_check import check_missing, check_names, convert
from jensen.models.indices import check_indices
from jensen.models.numpyro import seeded
from jensen.models.one_width import watched
from jensen.models.program import NumPyroProgram
from jensen.models.structure import Structure

if TYPE_CHECKING:
    from jensen.result import Fit


def predict(fit: Fit, new_data: Mapping[str, Any] | None, num_draws: int, seed: int) -> dict[str, np.ndarray]:
    """Run the model forward at posterior draws, with NumPyro's own `Predictive`."""
    from numpyro import handlers
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
            out = sampler(jax.random.key(seed), **arguments)
    return {name: np.asarray(values) for name, values in out.items()}


def _as_type(values: np.ndarray, dtype: Any) -> np.ndarray:
    return np.asarray(values, dtype if values.dtype.kind == "f" else None)


def _complete(program: NumPyroProgram, structure: Structure, new_data: Mapping[str, Any]) -> dict[str, Any]:
    """New inputs, with the fit's own scalars where they are not given; observed arrays default to None."""
    arguments = convert(new_data, program.precision)
    outcomes = {site.data_key for site in structure.observed if site.data_key}
    for name, value in program.kwargs.items():
        if name in arguments:
            continue
        if name in outcomes:
            arguments[name] = None
        elif np.ndim(value) == 0:
            arguments[name] = value
    check_names(program.fn, arguments)
    check_missing(arguments, outcomes)
    check_indices(program.fn, arguments, program.precision)
    return arguments


def _matching(
    program: NumPyroProgram, structure: Structure, arguments: dict[str, Any], draws: dict[str, np.ndarray]
) -> list[str]:
    """Latents whose shape under the new inputs is that of the fit; the others are drawn from their priors."""
    shapes: dict[str, tuple[int, ...]] = {}
    names = [site.name for site in structure.drawn if site.name in draws]

    def run() -> None:
        for name, site in feasible_trace(program.fn, arguments).items():
            if site["type"] == "sample":
                shapes[name] = np.shape(site["value"])

    try:
        jax.eval_shape(run)
    except Exception as error:
        from jensen.models.user_code import blame

        wrapped = blame(error, seeded(program.fn), arguments)
        raise DataError(
            f"The model cannot be run on the new data: {wrapped.what}",
            wrapped.where,
            "Give every input the model needs; the outcome may be left out if the model accepts None for it.",
        ) from error
    return [name for name in names if shapes.get(name) == draws[name].shape[1:]]
