"""The data, checked and converted before anything is traced or compiled."""

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from jensen._errors import DataError, nearest
from jensen.math.precision import Precision, float_type

Place: TypeAlias = Callable[[str, int], str]
"""(data key, index along the first axis) -> what the user calls that row."""
_OURS: "weakref.WeakValueDictionary[int, np.ndarray]" = weakref.WeakValueDictionary()
"""The copies that `convert` made, which it need not copy again."""


def as_mapping(data: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The data, no data being an empty mapping; raise for anything that does not map names to values."""
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise DataError(
            f"`data` must map the model's argument names to arrays, not be a {type(data).__name__}.",
            remedy="Pass a dict such as {'x': x, 'y': y}; a DataFrame works as dict(frame).",
        )
    return data


def named_arrays(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every array of the data (traced ones too) with its name; arrays inside mappings are `outer.inner`."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from named_arrays(value, f"{prefix}{name}.")
        elif hasattr(value, "dtype"):
            yield f"{prefix}{name}", value


def check_names(fn: Callable[..., Any], data: Mapping[str, Any], skip: int = 0) -> None:
    """Raise unless the data's names are exactly those that `fn` takes (`skip` leading arguments are not data)."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[skip:]
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = None
    else:
        known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
        for name in data:
            if name not in known:
                raise DataError(f"The model takes no argument '{name}'.", f"Data key: '{name}'.", nearest(name, known))
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)
    ]
    missing = [name for name in required if name not in data]
    if missing:
        raise DataError(
            f"The model needs {', '.join(repr(m) for m in missing)}, which the data lack.",
            f"The data hold {sorted(data) or 'nothing'}.",
            "Pass the missing arrays in `data`, under the model's argument names.",
        )


def convert(data: Mapping[str, Any], precision: Precision, place: Place | None = None) -> dict[str, Any]:
    """Data as the model will see them: arrays as NumPy arrays, floats in the working precision, in memory once.

    Raises a `DataError` that names the key (and the first offending row) for empty, infinite or non-numeric arrays.
    Missing values (NaN) pass: whether the model masks them is for the analysis to say.
    """
    return {str(name): _convert_one(str(name), value, precision, place) for name, value in data.items()}


def _convert_one(name: str, value: Any, precision: Precision, place: Place | None) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {k: _convert_one(f"{name}.{k}", v, precision, place) for k, v in value.items()}
    if _OURS.get(id(value)) is value and value.dtype == float_type(precision):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"'{name}' cannot be read as an array ({error}).",
            f"Data key: '{name}'.",
            "Pass a rectangular numeric array.",
        ) from error
    if array.dtype == object or array.dtype.kind in "OSUmMVc":
        array = _numbers(name, array)
    if array.size == 0:
        raise DataError(
            f"'{name}' is empty.",
            f"Data key: '{name}', shape {array.shape}.",
            "Leave the key out or pass at least one row.",
        )
    if array.dtype.kind == "f":
        infinite = np.isinf(array) if _suspicious(array) else np.zeros(0, bool)
        if infinite.any():
            raise DataError(
                f"'{name}' holds {int(infinite.sum())} infinite values.",
                _first(name, infinite, place),
                "Remove or replace these rows.",
            )
        array = _aligned(array, float_type(precision))
        _OURS[id(array)] = array
    elif array.dtype.kind in "iu":
        array = _whole(name, array, precision, place)
    return array


def _aligned(array: np.ndarray, kind: type) -> np.ndarray:
    """A copy that starts on a 64-byte boundary, which JAX uses on the CPU as it is, without a copy of its own."""
    size = array.size * np.dtype(kind).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + size].view(kind).reshape(array.shape)
    copy[...] = array
    return copy


def _whole(name: str, array: np.ndarray, precision: Precision, place: Place | None) -> np.ndarray:
    """Whole numbers in the one width of the precision at work, whatever width they came in."""
    kind = np.int64 if precision == "double" else np.int32
    if array.dtype.itemsize > np.dtype(kind).itemsize or array.dtype.kind == "u":
        limits = np.iinfo(kind)
        beyond = (array > limits.max) | (array < limits.min)
        if beyond.any():
            raise DataError(
                f"'{name}' holds whole numbers beyond {limits.bits} bits.",
                _first(name, beyond, place),
                "Renumber them, or pass them as floats" + ("." if kind is np.int64 else ", or use precision='double'."),
            )
    return array.astype(kind, copy=False)


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == object:
        try:
            return array.astype(float)
        except (TypeError, ValueError):
            pass
    kind = "text" if array.dtype.kind in "SU" else str(array.dtype)
    raise DataError(
        f"'{name}' has dtype {kind}, which no density can use.",
        f"Data key: '{name}', shape {array.shape}.",
        "Encode categories as integers 0..K-1 and dates as numbers.",
    )


def _first(name: str, bad: np.ndarray, place: Place | None = None) -> str:
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    words = f"row {index[0]}" if len(index) == 1 else f"index {index}" if index else "the scalar"
    if place is not None and index:
        words = place(name, index[0]) + (f", entry {index[1:]}" if len(index) > 1 else "")
    return f"Data key: '{name}', first at {words}."


def _suspicious(array: np.ndarray) -> bool:
    """Whether an array may hold something not finite; one pass, since a sum is finite only if every term is."""
    with np.errstate(all="ignore"):
        return not np.isfinite(array.sum())


def check_missing(data: Mapping[str, Any], masked: set[str], place: Place | None = None) -> None:
    """Raise for NaN in any array except those observed only at masked sites."""
    for name, value in named_arrays(data):
        if value.dtype.kind == "f" and name not in masked and _suspicious(value):
            missing = np.isnan(value)
            if missing.any():
                raise DataError(
                    f"'{name}' holds {int(missing.sum())} missing values (NaN).",
                    _first(name, missing, place),
                    "Drop these rows, or mask them in the model with numpyro.handlers.mask(mask=~isnan(...)).",
                )


def fixings(arguments: Mapping[str, Any]) -> tuple[set[str], ...]:
    """Sets of arguments to hold fixed, to be tried in order: what is no array, the integer arrays too, everything.

    A program may need concrete values for some of its arguments, a size computed from an array, say.
    """
    scalars = {k for k, v in arguments.items() if not isinstance(v, (np.ndarray, dict))}
    integers = {k for k, v in arguments.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iub"}
    return scalars, scalars | integers, set(arguments)
