"""Posterior predictive draws."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.util import soft_vmap

from jensen._base.errors import DataError, JensenError, OptionError, UndefinedError
from jensen._data.data_check import missing, refuse_missing
from jensen._fit.entries import Forward, refuse_large, refuse_other_laws
from jensen._fit.levels import Change, Levels, seen
from jensen._math.precision import float_type, working
from jensen._model.door import read
from jensen._model.missing import POINTS
from jensen._model.program import BoundProgram
from jensen._program.indices import check_indices
from jensen._program.nan_comparisons import refuse_compared, refuse_taken
from jensen._program.number_widths import seeded, watched
from jensen._program.structure import Structure

if TYPE_CHECKING:
    from jensen._fit.result import Fit


def predict(
    fit: Fit, new_data: Mapping[str, Any] | None, num_draws: int, seed: int, new: str | Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Run the model forward at posterior draws; `new` names latents of which no entry is the fit's."""
    answer = fit._attached("predictions")
    program = answer.program
    if program is None:
        raise UndefinedError("A LogDensity has no observed sites to predict.", "", "Write the model in NumPyro.")
    structure = fit.structure
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
    anew = _known_names(structure, new)
    if not program.program.handled:
        return _plainly(program, arguments, draws, names, seed, anew)
    draws = {name: values for name, values in draws.items() if name not in anew}
    with working(program.precision):
        return _predicted(fit, program, arguments, draws, names, num_draws, seed, new_data is not None)


def _plainly(
    program: BoundProgram,
    arguments: dict[str, Any],
    draws: dict[str, np.ndarray],
    names: list[str],
    seed: int,
    new: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """The same for a program in another language, which says itself how observed sites are drawn; no new entries."""
    if new:
        raise UndefinedError("Entries of latents are drawn anew in NumPyro programs only.", f"Sites {', '.join(new)}.")
    arrays, fixed = _divided(program, arguments)

    def one(arrays: dict[str, Any], key: Any, latent: dict[str, Any]) -> dict[str, Any]:
        found = program.program.forward(latent, {**arrays, **fixed}, key)
        return {name: found[name] for name in names}

    with working(program.precision):
        keys = jax.random.split(jax.random.key(seed), len(next(iter(draws.values()))))
        run = jax.jit(lambda arrays, keys, all_of: jax.lax.map(lambda pair: one(arrays, *pair), (keys, all_of)))
        return jax.device_get(run(arrays, keys, draws))


def _predicted(
    fit: Fit,
    program: BoundProgram,
    arguments: dict[str, Any],
    draws: dict[str, np.ndarray],
    names: list[str],
    num_draws: int,
    seed: int,
    given: bool,
) -> dict[str, np.ndarray]:
    """Draws of the observed sites `names` at the arguments, which are other than the fit's where `given`."""
    dtype, structure = float_type(program.precision), fit.structure
    levels, changes = _matching(fit, program, arguments, draws)
    posterior = {name: _as_type(draws[name], dtype) for name in changes}
    new = {name: change for name, change in changes.items() if change is not None}
    refuse_large(new)
    arrays, fixed = _divided(program, arguments)
    if given:
        _refuse_other_fields(program, levels, [name for name in changes if name not in new], posterior, arguments)
    forward = Forward(watched(program.fn), new, names, levels.factors)
    out, gaussian = _run(forward, num_draws, seed, posterior, arrays, fixed)
    refuse_other_laws(new, np.asarray(gaussian))
    found = {name: np.asarray(out[name]) for name in names}
    unfilled = missing(arguments, {site.data_key for site in structure.observed}) if given else []
    if unfilled:
        forward, everything = handlers.uncondition(watched(program.fn)), {**posterior, **out}
        if _not_a_number(forward, everything, arrays, fixed):
            refuse_missing(arguments, unfilled[0])
        some = {name: values[:POINTS] for name, values in everything.items()}
        first = {name: values[0] for name, values in some.items()}
        closed = jax.make_jaxpr(lambda given, drawn: _total(forward, {**given, **fixed}, drawn))(arrays, first)
        refuse_compared(closed, arrays, some, unfilled)

        def trace(held: dict[str, Any]) -> Any:
            return jax.make_jaxpr(lambda drawn: _total(forward, {**arrays, **held}, drawn))(first)

        refuse_taken(trace, fixed, jax.tree.leaves(some), unfilled)
    return found


def _run(
    forward: Forward, count: int, seed: int, draws: dict[str, Any], arrays: dict[str, Any], fixed: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """The draws from one compiled program; step by step where NumPyro needs numbers, such as a multinomial's counts.

    With the keys of NumPyro's own `Predictive`, whose draws these are where no latent has new entries.
    """
    key = jax.random.key(seed)
    keys = jax.random.key_data(jax.random.split(key, count) if count > 1 else key[None])

    def every(arrays: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        def one(pair: Any) -> tuple[dict[str, Any], Any]:
            return forward(pair[0], pair[1], {**arrays, **fixed})

        return soft_vmap(one, (keys, draws), 1, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return jax.jit(every)(arrays)
        except JensenError:
            raise
        except Exception as error:
            try:
                return every(arrays)
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


def _divided(program: BoundProgram, arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(traced arguments, fixed ones), as in the fit; arguments that the fit had not are told by what they hold."""
    names = {k for k, v in arguments.items() if k in program.fixed or not isinstance(v, (np.ndarray, jax.Array, dict))}
    return {k: v for k, v in arguments.items() if k not in names}, {k: arguments[k] for k in names}


def _as_type(values: np.ndarray, dtype: Any) -> np.ndarray:
    return np.asarray(values, dtype if values.dtype.kind == "f" else None)


def _complete(program: BoundProgram, structure: Structure, new_data: Mapping[str, Any]) -> dict[str, Any]:
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
    program.program.check_names(arguments)
    check_indices(program.fn, arguments, program.precision)
    return arguments


def _known_names(structure: Structure, new: Any) -> tuple[str, ...]:
    """Latents by name, one or several; raises for anything else."""
    latents = [site.name for site in structure.drawn]
    names = (new,) if isinstance(new, str) or not isinstance(new, Iterable) else tuple(new)
    for name in names:
        if not isinstance(name, str) or name not in latents:
            raise OptionError(
                f"There is no latent {name!r} to draw anew.", f"Latents: {', '.join(latents)}.", "Name some of them."
            )
    return names


def _matching(
    fit: Fit, program: BoundProgram, arguments: dict[str, Any], draws: dict[str, np.ndarray]
) -> tuple[Levels, dict[str, Change | None]]:
    """What is new in each latent on these arguments."""
    arrays, fixed = _divided(program, arguments)
    try:
        sites = seen(program.fn, arrays, fixed)
    except Exception as error:
        from jensen._program.user_code import blame

        wrapped = blame(error, seeded(program.fn), arguments)
        raise DataError(
            f"The model cannot be run on the new data: {wrapped.what}",
            wrapped.where,
            "Give every input the model needs; the outcome may be left out if the model accepts None for it.",
        ) from error
    levels = Levels(fit, program.kwargs, arguments, sites)
    return levels, levels.changes(draws)


def _refuse_other_fields(
    program: BoundProgram, levels: Levels, names: list[str], draws: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """Raise where a field has as many places as in the fit, and they are others: it is not known there."""
    moved = {name: key for name in names if (key := levels.moved(name))}
    if not moved:
        return
    first, rng = {name: values[0] for name, values in draws.items()}, np.random.default_rng(0)

    def law(name: str, arguments: dict[str, Any]) -> float:
        trace = handlers.trace(handlers.substitute(seeded(program.fn), data=first)).get_trace(**arguments)
        return float(trace[name]["fn"].log_prob(trace[name]["value"]).sum())

    for name, key in moved.items():
        here = law(name, program.kwargs)
        others = [law(name, arguments)]
        if key in program.kwargs:  # a law that moves with its places
            others.append(law(name, {**program.kwargs, key: rng.permutation(np.asarray(program.kwargs[key]))}))
        if not np.isclose(here, others, rtol=1e-6, atol=1e-6).all():
            raise DataError(
                f"The entries of '{name}' are at other places on the new data than in the fit.",
                f"Site '{name}'; '{key}' differs.",
                "Give the inputs of the fit and the new ones after them; the predictions come in that order.",
            )
