"""Errors raised inside a user's model, shown at the user's own line."""

import linecache
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jensen._errors import ModelError

_LIBRARIES = ("site-packages", "dist-packages", str(Path(__file__).resolve().parents[1]), "<frozen", "<string>")


_PYTHON = str(Path(traceback.__file__).parent)


def is_user_file(filename: str) -> bool:
    """Whether a source file belongs to neither jensen nor an installed library."""
    return not any(part in filename for part in _LIBRARIES) and not filename.startswith(_PYTHON)


def user_frame(error: BaseException) -> str:
    """`file.py, line 12: y = ...` of the innermost frame that belongs to neither jensen nor an installed library."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_user_file(frame.filename):
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            return f"{Path(frame.filename).name}, line {frame.lineno}: {line}"
    return ""


def blame(error: BaseException, fn: Callable[..., Any], data: Mapping[str, Any]) -> ModelError:
    """The model's own exception as a `ModelError` that shows the user's line and the shapes of the data."""
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
