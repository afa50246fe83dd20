"""Where two traces of one function differ: the first equation that is not the same, at the user's own line."""

import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jensen._math.programs import needed_equations
from jensen._program.user_code import is_user_file

ULPS = 64
"""Rounding errors by which an array that NumPy computed twice may differ: its sums depend on where memory begins."""


def difference(first: ClosedJaxpr, second: ClosedJaxpr) -> tuple[str, str] | None:
    """(what differs, the user's line, empty if unknown) between the equations that the outputs need; `None` if equal.

    Variables are compared by the order in which they appear, constants by value, functions inside parameters not at
    all: rules of differentiation are made anew at every trace.
    """
    names: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
    for side, closed in zip(names, (first, second), strict=True):
        side.update({v: _constant(c) for v, c in zip(closed.jaxpr.constvars, closed.consts, strict=True)})
        side.update({v: ("input", i) for i, v in enumerate(closed.jaxpr.invars)})
    here, there = (needed_equations(closed.jaxpr, closed.jaxpr.outvars) for closed in (first, second))
    for index, (a, b) in enumerate(zip(here, there, strict=False)):
        what = _unlike(a, b, names)
        if what:
            inner = next((found for found in map(lambda pair: difference(*pair), _inner(a, b)) if found), None)
            return inner if inner and inner[1] else (what, user_line(a) or user_line(b))
        for side, eqn in zip(names, (a, b), strict=True):
            side.update({v: ("result", index, i) for i, v in enumerate(eqn.outvars)})
    if len(here) != len(there):
        more = (here if len(here) > len(there) else there)[min(len(here), len(there))]
        return f"{len(here)} operations and then {len(there)}", user_line(more)
    outputs = zip(first.jaxpr.outvars, second.jaxpr.outvars, strict=False)
    what = next(filter(None, (_values_apart(_value(names[0], a), _value(names[1], b)) for a, b in outputs)), "")
    return (what, "") if what else None


def _unlike(a: Any, b: Any, names: tuple[dict[Any, Any], dict[Any, Any]]) -> str:
    """What differs between two equations, in words; empty if nothing does."""
    if a.primitive is not b.primitive:
        return f"first {a.primitive.name} and then {b.primitive.name}"
    if [str(v.aval) for v in a.outvars] != [str(v.aval) for v in b.outvars]:
        return f"an array of shape {a.outvars[0].aval.shape} and then one of shape {b.outvars[0].aval.shape}"
    for one, other in zip(a.invars, b.invars, strict=False):
        what = _values_apart(_value(names[0], one), _value(names[1], other))
        if what:
            return what
    for pair in _inner(a, b):
        found = difference(*pair)
        if found:
            return found[0]
    return next((f"{name} = {p} and then {q}" for name, p, q in _plain(a, b) if repr(p) != repr(q)), "")


def _constant(value: Any) -> tuple[Any, ...]:
    return ("kept", id(value)) if isinstance(value, Tracer) else ("constant", np.asarray(value))


def _value(names: dict[Any, Any], variable: Any) -> tuple[Any, ...]:
    return ("constant", np.asarray(variable.val)) if isinstance(variable, Literal) else names[variable]


def _values_apart(one: tuple[Any, ...], other: tuple[Any, ...]) -> str:
    if "kept" in (one[0], other[0]):
        return "a value kept from an earlier run"
    if "constant" not in (one[0], other[0]):
        return "" if one == other else "other operands"
    if one[0] != other[0]:
        return "a fixed number where another run computes one"
    a, b = one[1], other[1]
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"an array of shape {a.shape} and then one of shape {b.shape}"
    if a is b or a.tobytes() == b.tobytes():
        return ""
    if a.ndim and a.dtype.kind in "fc":
        slack = ULPS * np.finfo(a.dtype).eps * np.abs(np.nan_to_num(a)).max(initial=0.0)
        if np.allclose(a, b, rtol=0.0, atol=slack, equal_nan=True):
            return ""
    at = tuple(np.argwhere(a != b)[0]) if a.ndim else ()
    return f"{a[at]!s} and then {b[at]!s}" if a.dtype.kind in "biufc" else "other constants"


def _inner(a: Any, b: Any) -> Iterator[tuple[ClosedJaxpr, ClosedJaxpr]]:
    """The programs inside two equations, pair by pair."""
    for name, one in a.params.items():
        pairs = zip(_several(one), _several(b.params.get(name)), strict=False)
        for first, second in pairs:
            if isinstance(first, (Jaxpr, ClosedJaxpr)) and isinstance(second, (Jaxpr, ClosedJaxpr)):
                yield _closed(first), _closed(second)


def _several(value: Any) -> Any:
    return value if isinstance(value, (tuple, list)) else (value,)


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _plain(a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Parameters that are numbers, words or tuples of them."""
    kinds = (int, float, str, bool, np.integer)
    for name, one in a.params.items():
        other = b.params.get(name)
        if all(isinstance(value, kinds) for value in (*_several(one), *_several(other))):
            yield name, one, other


def user_line(eqn: Any) -> str:
    """`model.py, line 12: y = ...` of the innermost frame of the user's own code; empty if there is none."""
    for frame in getattr(getattr(eqn.source_info, "traceback", None), "frames", ()):
        if is_user_file(frame.file_name):
            line = linecache.getline(frame.file_name, frame.line_num).strip()
            return f"{Path(frame.file_name).name}, line {frame.line_num}: {line}"
    return ""
