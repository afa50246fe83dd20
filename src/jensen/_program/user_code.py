"""Errors raised inside a user's model, shown at the user's own line."""

import linecache
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jensen._base.errors import DataError, ModelError

_LIBRARIES = ("site-packages", "dist-packages", str(Path(__file__).resolve().parents[1]), "<frozen", "<string>")


_PYTHON = str(Path(traceback.__file__).parent)


IN_PLACE = (
    *("byteswap", "copyto", "fill", "itemset", "partition", "place", "put", "putmask", "resize", "setflags", "shuffle"),
    "sort",
)
"""NumPy's ways to change an array in its place, methods and functions."""
CARRY = re.compile(r"has type (\S+) but the corresponding output carry component has type (\S+), so the dtypes")
"""JAX's words where the state of a loop changes its type."""


def is_user_file(filename: str) -> bool:
    """Whether a source file belongs to neither jensen nor an installed library."""
    return not any(part in filename for part in _LIBRARIES) and not filename.startswith(_PYTHON)


def user_frame(error: BaseException) -> str:
    """`file.py, line 12: y = ...` of the innermost frame that belongs to neither jensen nor an installed library."""
    return _user_frame(error)[0]


def _user_frame(error: BaseException) -> tuple[str, Mapping[str, Any]]:
    """(`user_frame`, the local variables there)."""
    frame = error.__traceback__
    found, variables = "", {}
    while frame is not None:
        filename, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
        if is_user_file(filename):
            found = f"{Path(filename).name}, line {line}: {linecache.getline(filename, line).strip()}"
            variables = frame.tb_frame.f_locals
        frame = frame.tb_next
    return found, variables


def _writes(error: BaseException) -> bool:
    """Whether the error is that of writing into an array which is read-only, or into one of JAX, which has no way."""
    message = str(error)
    if isinstance(error, AttributeError):
        names = re.findall(r"has no attribute '?(\w+)", message)
        return "Tracer" in message and bool(names) and names[0] in IN_PLACE
    if not isinstance(error, (TypeError, ValueError)):
        return False
    if "read-only" in message or "JAX arrays are immutable" in message:
        return True
    place = user_frame(error)
    numpy_only = "Tracer" in message or "must be an array" in message or "'out'" in message
    return numpy_only and any(re.search(rf"\b{name}\b", place) for name in (*IN_PLACE, "out"))


def written_to(error: BaseException, data: Mapping[str, Any]) -> DataError | None:
    """What to say where the model writes into its arrays, which are not its own; `None` for any other error."""
    if not _writes(error):
        return None
    place, variables = _user_frame(error)
    mine = [v for v in variables.values() if isinstance(v, np.ndarray)]
    arrays = [name for name, value in data.items() if np.ndim(value) or isinstance(value, Mapping)]
    named = [n for n in arrays if re.search(rf"\b{re.escape(n)}\b", place.partition(": ")[2])]
    shared = [n for n in arrays if any(np.may_share_memory(v, a) for v in mine for a in _leaves(data[n]))]
    names = named or shared or arrays
    return DataError(
        f"The model writes into its data, {' or '.join(repr(n) for n in names)}, which would change them for every "
        "later run.",
        f"At {place}." if place else f"Data keys: {', '.join(map(repr, names))}.",
        "Let it make a new array: y = y + 1 for y += 1, numpy.sort(y) for y.sort(), y.at[i].set(v) for y[i] = v, or "
        "work on numpy.array(y), a copy.",
    )


def _leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, Mapping):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return [value] if isinstance(value, np.ndarray) else []


def blame(error: BaseException, fn: Callable[..., Any], data: Mapping[str, Any]) -> ModelError | DataError:
    """The model's own exception as a `ModelError` that shows the user's line and the shapes of the data."""
    written = written_to(error, data)
    if written is not None:
        return written
    shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in data.items() if np.ndim(value))
    first_line = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else "no message"
    place = user_frame(error)
    if isinstance(error, AssertionError) and "unique names" in first_line:
        return ModelError(
            f"Two sites of the model have one name: {first_line}.",
            f"At {place}." if place else f"In {getattr(fn, '__name__', 'the model')}.",
            "Rename one of them. A parameter that is learned (numpyro.param) cannot also be a latent.",
        )
    types = CARRY.search(str(error))
    if types is not None:
        return ModelError(
            f"The state of a loop begins as {types[1]} and goes on as {types[2]}.",
            f"At {place}." if place else f"In {getattr(fn, '__name__', 'the model')}.",
            f"Begin it in the type that a step gives it, jnp.asarray(start, jnp.{types[2].partition('[')[0]}); whole "
            "numbers and floats have 64 bits in precision='double' and 32 in 'single'.",
        )
    return ModelError(
        f"The model raised {type(error).__name__}: {first_line}.",
        f"At {place}." if place else f"In {getattr(fn, '__name__', 'the model')}.",
        f"Data shapes: {shapes}." if shapes else "Run the model by itself to see the whole traceback.",
    )
