"""What a file remembers of model and data, so that it is not attached to others: digests and a few log densities."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import biject_to

from jensen._base.errors import DataError, OptionError
from jensen._data.sources import Rows
from jensen._fit.answers import AbstractAnswer
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._model.parameters import LEARNED
from jensen._program.structure import Structure

MARKED = 1024
"""Rows of an array that are told apart, evenly spaced where there are more."""
TOLERANCE = {"double": 1e-6, "single": 2e-3}
"""Of a log density, relative: another machine sums in another order."""


def fingerprint(answer: AbstractAnswer) -> dict[str, Any]:
    """Ready for JSON. `data` is `None` where the rows come in batches, which may come in another order next time."""
    source = getattr(answer.target, "source", None)
    arguments: Mapping[str, Any] | None
    if source is not None:
        arguments = source.arguments if isinstance(source, Rows) else None
    elif answer.program is not None:
        arguments = answer.program.kwargs
    else:
        arguments = answer.target.model.kwargs
    data = None if arguments is None else {name: _marks(value) for name, value in _leaves(arguments)}
    batches = getattr(answer.target, "batches", None)
    rows = None if source is None or batches is None else [batches.plate, answer.target.size]
    return {"data": data, "rows": rows, "precision": answer.target.precision, "density": _densities(answer)}


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every argument that says something, by name; what was learned is kept elsewhere."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            if name != LEARNED:
                yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _marks(value: Any) -> dict[str, Any]:
    """Shape, digests of all values (exact, and rounded to single precision), and 16 bits of up to 1024 rows."""
    if isinstance(value, str) or not (np.isscalar(value) or hasattr(value, "shape")):
        return {"value": hashlib.sha256(repr(value).encode()).hexdigest()}
    array = np.atleast_1d(value)
    held = np.linspace(0, len(array) - 1, min(MARKED, len(array))).astype(int)
    rows = _canonical(array[held]).astype(np.float32)
    marks = {"shape": list(np.shape(value)), "rows": [zlib.crc32(row.tobytes()) & 0xFFFF for row in rows]}
    if isinstance(value, np.memmap):  # reading all of it may take hours
        return marks
    whole = _canonical(array)
    return marks | {
        "exact": hashlib.sha256(whole.tobytes()).hexdigest(),
        "single": hashlib.sha256(whole.astype(np.float32).tobytes()).hexdigest(),
        "fits_single": bool((whole == whole.astype(np.float32)).all() and (whole % 1 != 0).any()),
    }


def _canonical(array: Any) -> np.ndarray:
    """The values whatever their type: as doubles, with one zero and one NaN."""
    values = np.asarray(array).astype(float) + 0.0
    return np.where(np.isnan(values), np.nan, values)


def check_same(saved: Mapping[str, Any] | None, answer: AbstractAnswer, structure: Structure, partial: bool) -> bool:
    """Raise where an answer's model or data are not those of the fingerprint; whether the data could be compared.

    `structure` is that of the saved fit, and `partial` says that it may leave rows out.
    """
    other = fingerprint(answer)
    remedy = "Attach the data that it was fitted to, or fit the new ones."
    before, now = (saved or {}).get("data"), other["data"]
    differ = None if before is None or now is None else differing_data(before, now)
    if differ:
        raise DataError(f"These are not the data of the saved fit: {differ[0]}.", differ[1], remedy)
    sizes = {plate.name: plate.size for site in answer.structure.sites.values() for plate in site.plates}
    plate, count = (saved or {}).get("rows") or (None, None)
    if plate is not None and sizes.get(plate, count) != count:
        what = f"These are not the data of the saved fit: {sizes[plate]} rows for {count}."
        raise DataError(what, f"Plate '{plate}'.", remedy)
    site = None if partial else _differing_site(structure, answer.structure)
    site = site or (differing_density(saved, other, partial) if saved is not None else None)
    if site is not None:
        raise OptionError(
            f"This model does not match the saved fit at site '{site}'.",
            "Its shape, its plates or its log density at a test point are others.",
            "Attach the model it was fitted with.",
        )
    return before is not None and now is not None


def _differing_site(first: Structure, second: Structure) -> str | None:
    for name, site in first.sites.items():
        other = second.sites.get(name)
        if other is None or (site.kind, site.shape, site.plates) != (other.kind, other.shape, other.plates):
            return name
    return None


def differing_data(saved: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str] | None:
    """(what differs, where) in two `data` of fingerprints; `None` where nothing does."""
    for name in (*saved, *other):
        if name not in other or name not in saved:
            return f"'{name}' is in only one of them", f"Data key: '{name}'."
        first, second = saved[name], other[name]
        if first.get("shape") != second.get("shape"):
            shapes = [tuple(marks["shape"]) if "shape" in marks else "no array" for marks in (first, second)]
            return f"'{name}' had the shape {shapes[0]} and has {shapes[1]}", f"Data key: '{name}'."
        if "rows" not in first:
            if first != second:
                return f"'{name}' has another value", f"Data key: '{name}'."
            continue
        if first["rows"] != second["rows"]:
            return _at_row(name, first, second)
        if "exact" in first and "exact" in second and first["exact"] != second["exact"]:
            rounded = first["fits_single"] or second["fits_single"]
            if not rounded or first["single"] != second["single"]:
                return f"'{name}' has other values", f"Data key: '{name}'."
    return None


def _at_row(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, str]:
    number = next(i for i, (a, b) in enumerate(zip(first["rows"], second["rows"], strict=True)) if a != b)
    count = first["shape"][0] if first["shape"] else 1
    rows = np.linspace(0, count - 1, min(MARKED, count)).astype(int)
    where = f"Data key: '{name}', first seen at row {rows[number]}."
    reordered = count <= MARKED and sorted(first["rows"]) == sorted(second["rows"])
    return f"'{name}' has {'the same rows in another order' if reordered else 'other values'}", where


def differing_density(saved: Mapping[str, Any], other: Mapping[str, Any], partial: bool) -> str | None:
    """The first site whose log density differs at the test point; only sites of both where rows are left out."""
    single = "single" in (saved["precision"], other["precision"])
    tolerance = TOLERANCE["single" if single else "double"]
    for name, value in saved["density"].items():
        found = other["density"].get(name)
        if partial and found is None:
            continue
        if found is None or not np.isclose(value, found, rtol=tolerance, atol=tolerance, equal_nan=True):
            return name
    return None


def _densities(answer: AbstractAnswer) -> dict[str, float]:
    """Site -> its log density (of a deterministic one its sum) at one point, data included, in nats.

    A site that depends on a key, inside a `scan` say, is left out: that is seen from two keys. Where the program cannot
    be run at this point, nothing is known, and a fit can be saved nevertheless.
    """
    program = answer.program
    names = {site.name for site in answer.structure.latents} if answer.partial else None
    with working(answer.target.precision):
        try:
            if program is None or not program.program.handled:
                model = answer.target.model
                terms = Program(lambda m, point: m.log_joint(m.constrain(point)))
                point = _generic((answer.structure.dim,), 0.0)
                found = [jax.device_get(terms(model, np.asarray(point)))] * 2
            else:
                run = Program(lambda arrays, key: _terms(program.fn, {**arrays, **program.fixed}, key))
                found = [jax.device_get(run(program.arrays, np.uint32(seed))) for seed in (0, 1)]
        except Exception:
            return {}
    pairs = {name: (float(np.sum(found[0][name])), float(np.sum(found[1][name]))) for name in found[0]}
    return {
        name: first
        for name, (first, second) in pairs.items()
        if (names is None or name in names) and np.array_equal(first, second, equal_nan=True)
    }


def _terms(fn: Any, arguments: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    program = handlers.substitute(handlers.seed(fn, rng_seed=jax.random.key(seed)), substitute_fn=_at)
    terms = {}
    for name, site in handlers.trace(program).get_trace(**arguments).items():
        if site["type"] == "sample":
            terms[name] = jnp.sum(site["fn"].log_prob(site["value"]))
        elif site["type"] == "deterministic":
            terms[name] = jnp.sum(site["value"])
    return terms


def _at(site: dict[str, Any]) -> Any:
    """A value of a latent that no other model is likely to share a density at."""
    if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
        return None
    if "_scan_current_index" in site["infer"]:
        return None
    support, shape = site["fn"].support, site["fn"].shape()
    if support.is_discrete:
        return jnp.broadcast_to(jnp.asarray(getattr(support, "lower_bound", 0), int), shape)
    transform = biject_to(support)
    return transform(_generic(transform.inverse_shape(shape), zlib.crc32(site["name"].encode()) % 97))


def _generic(shape: tuple[int, ...], offset: float) -> Any:
    count = int(np.prod(shape, dtype=int))
    return jnp.asarray(0.5 * np.sin(1.0 + offset + np.arange(count)).reshape(shape))
