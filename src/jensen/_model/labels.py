"""Whole numbers that came as floats: labels and indices, found in one abstract run of the program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from jensen._base.errors import DataError
from jensen._data.arguments import given
from jensen._data.columns import Place, first
from jensen._data.data_check import fixings, named_arrays
from jensen._math.precision import Precision, working
from jensen._program.analysis import CONCRETE_NEEDED, feasible_trace
from jensen._program.contract import AbstractProgram
from jensen._program.programs import as_program
from jensen._program.statements import bare, is_masked
from jensen._program.static_arguments import signature


@dataclass(frozen=True)
class _Outcome:
    """An observed site with a data key: whether it takes integers only, whether it is masked, its support.

    The parameters of the support are numbers, or names of the data that hold them; `None` for any others.
    """

    site: str
    described: str
    key: str
    counted: bool
    masked: bool
    support: Any
    parameters: tuple[Any, ...] | None


@dataclass(frozen=True)
class _Found:
    """The arrays that are used as an index, and the observed sites with a data key."""

    indices: tuple[str, ...]
    outcomes: tuple[_Outcome, ...]


_FOUND: "WeakKeyDictionary[Any, dict[Any, _Found]]" = WeakKeyDictionary()
"""By program and shapes: batches come in many pieces of one shape."""


def whole(model: Any, arguments: dict[str, Any], precision: Precision, place: Place | None = None) -> dict[str, Any]:
    """The arguments with floats as integers where the program takes them for labels or for indices.

    Raises a `DataError` that names key and row where these are no whole numbers, or where observed values lie outside
    their support, if that depends on data alone. What else goes wrong in the run is left to the analysis to say.
    """
    key = signature(arguments), precision
    try:
        known = _FOUND.setdefault(model, {})
    except TypeError:  # not weakly referable
        known = {}
    if key not in known:
        with working(precision):
            known[key] = _found(model, arguments)
    for name in known[key].indices:
        arguments = _with(arguments, name, lambda v, name=name: _integers(name, v, "", place))
    arrays = dict(named_arrays(arguments))
    for one in known[key].outcomes:
        arguments = _with(arguments, one.key, lambda v, one=one: _labels(one, v, arrays, place))
    return arguments


def _found(model: Any, arguments: dict[str, Any]) -> _Found:
    """What `whole` looks for; which floats are used as an index is found by trying one after the other."""
    indices: list[str] = []
    error, outcomes = _run(model, arguments)
    while isinstance(error, (TypeError, ValueError, IndexError)):
        floats = [k for k, v in named_arrays(arguments) if v.dtype.kind == "f"]
        for key in floats:
            changed = _with(arguments, key, lambda v: np.zeros(v.shape, int))
            later, found = _run(model, changed)
            if type(later) is not type(error) or str(later) != str(error):
                break
        else:
            return _Found(tuple(indices), ())
        indices.append(key)
        arguments, error, outcomes = changed, later, found
    return _Found(tuple(indices), tuple(outcomes))


def _labels(one: _Outcome, value: np.ndarray, arrays: dict[str, Any], place: Place | None) -> np.ndarray:
    site = f"Site '{one.site}' ({one.described})."
    if one.counted and value.dtype.kind in "fb":
        value = _integers(one.key, value, site, place)
    if one.parameters is None or one.masked:
        return value
    parameters = [np.asarray(arrays[p]) if isinstance(p, str) else p for p in one.parameters]
    support = jax.tree.unflatten(one.support, parameters)
    try:
        with np.errstate(invalid="ignore"):
            inside = np.asarray(support(np.asarray(value)))
    except (TypeError, ValueError):  # of a shape that the distribution has not, which the analysis says
        return value
    event = value.ndim - inside.ndim
    bad = ~inside & ~np.isnan(value).any(axis=tuple(range(value.ndim - event, value.ndim)))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} values of '{one.site}' lie outside {support}, the support of {one.described}.",
            f"Site '{one.site}'. {first(one.key, bad, place)}",
            "Correct or remove these rows, or choose a distribution whose support holds them.",
        )
    return value


def _integers(key: str, value: np.ndarray, why: str, place: Place | None) -> np.ndarray:
    """Floats and truth values as integers; raise for fractions and missing values."""
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(value) < 2.0**53) | (value != np.round(value)) if value.dtype.kind == "f" else np.array(False)
    if bad.any():
        shown = value[tuple(np.argwhere(bad)[0])]
        what = "a missing value (NaN)" if np.isnan(shown) else f"{shown:g}"
        raise DataError(
            f"'{key}' holds {what} where the model needs whole numbers, as labels or as an index.",
            f"{first(key, bad, place)} {why}".strip(),
            "Remove these rows, or give integers; for a row that is masked in the model any label will do.",
        )
    return given(np.asarray(value).astype(int))


def _with(arguments: dict[str, Any], key: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """The arguments with one array, `outer.inner` if it lies inside a mapping, changed."""
    if key in arguments:
        return {**arguments, key: change(arguments[key])}
    outer = max((k for k in arguments if key.startswith(f"{k}.")), key=len)
    return {**arguments, outer: _with(arguments[outer], key[len(outer) + 1 :], change)}


def _run(model: Any, arguments: dict[str, Any]) -> tuple[BaseException | None, list[_Outcome]]:
    """(what went wrong, the observed sites with a data key) in an abstract run."""
    error: BaseException | None = None
    for fixed in fixings(arguments):
        arrays = {k: v for k, v in arguments.items() if k not in fixed}
        concrete = {k: v for k, v in arguments.items() if k in fixed}
        found: list[_Outcome] = []
        look: Any = _program if as_program(model).handled else _plain
        try:
            jax.eval_shape(lambda a, look=look, c=concrete, f=found: f.extend(look(model, {**a, **c})), arrays)
            return None, found
        except CONCRETE_NEEDED as needed:
            error = needed
        except Exception as other:
            return other, []
    return error, []


def _plain(program: AbstractProgram, kwargs: dict[str, Any]) -> list[_Outcome]:
    if program.traced:
        program.log_joint({site.name: jnp.ones(site.shape) for site in program.latents(kwargs)}, kwargs)
    return []


def _program(fn: Callable[..., Any], kwargs: dict[str, Any]) -> list[_Outcome]:
    keys = {id(array): name for name, array in named_arrays(kwargs)}
    found = []
    for site in feasible_trace(fn, kwargs).values():
        if site["type"] == "sample" and site["is_observed"] and id(site["value"]) in keys:
            one = _outcome(site, keys)
            found += [one] if one is not None else []
    return found


def _outcome(site: dict[str, Any], keys: dict[int, str]) -> _Outcome | None:
    base, masked = bare(site["fn"]), is_masked(site["fn"])
    if isinstance(base, dist.Unit):
        return None
    support = site["fn"].support
    counted = False
    if support.is_discrete and not jnp.issubdtype(site["value"].dtype, jnp.integer):
        try:
            base.log_prob(site["value"])
        except TypeError:
            counted = True
    leaves = [keys.get(id(leaf), leaf) for leaf in jax.tree.leaves(support)]
    known = all(isinstance(leaf, (str, bool, int, float, np.number)) for leaf in leaves)
    what = site["name"], type(base).__name__, keys[id(site["value"])], counted, masked, jax.tree.structure(support)
    return _Outcome(*what, tuple(leaves) if known else None)
