"""Errors raised inside a user's model, shown at the user's own line."""

import linecache
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jensen._errors import DataError, ModelError

_LIBRARIES = ("site-packages", "dist-packages", str(Path(__file__).resolve().parents[1]), "<frozen", "<string>")


_PYTHON = str(Path(traceback.__file__).parent)


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


def written_to(error: BaseException, data: Mapping[str, Any]) -> DataError | None:
    """What to say where the model writes into its arrays, which are not its own; `None` for any other error."""
    if not isinstance(error, (TypeError, ValueError)) or not any(
        words in str(error) for words in ("read-only", "JAX arrays are immutable")
    ):
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
    return ModelError(
        f"The model raised {type(error).__name__}: {first_line}.",
        f"At {place}." if place else f"In {getattr(fn, '__name__', 'the model')}.",
        f"Data shapes: {shapes}." if shapes else "Run the model by itself to see the whole traceback.",
    )
