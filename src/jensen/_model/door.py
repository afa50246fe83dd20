"""The one door through which data go in: tables by their columns, values as arrays, whole numbers as integers."""

from typing import Any

import numpy as np

from jensen._base.errors import ModelError
from jensen._data.columns import Place
from jensen._data.data_check import as_mapping, convert
from jensen._data.sources import AbstractSource
from jensen._math.precision import Precision
from jensen._model.labels import whole
from jensen._program.contract import AbstractProgram


def opened(model: Any, data: Any, precision: Precision) -> Any:
    """The data as methods take them; raise where they stand in the place of the model.

    A source of batches is passed on as it is, its batches being read one by one; memory-mapped arrays likewise.
    """
    if not callable(model) and not isinstance(model, AbstractProgram):
        swapped = callable(data) or isinstance(data, AbstractProgram)
        raise ModelError(
            f"A model is a function or a LogDensity, not a {type(model).__name__}"
            f"{': model and data are swapped.' if swapped else '.'}",
            "Argument: model.",
            "Pass the model first: jn.fit(model, data).",
        )
    if isinstance(data, AbstractSource):
        return data
    found = as_mapping(data)
    if any(isinstance(value, np.memmap) for value in found.values()):
        return found
    return read(model, found, precision)


def read(model: Any, data: Any, precision: Precision, place: Place | None = None) -> dict[str, Any]:
    """`convert`, with floats as integers where the program takes them for labels or for indices."""
    return whole(model, convert(as_mapping(data), precision, place), precision, place)


__all__ = ["opened", "read"]
