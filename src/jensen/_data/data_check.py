"""The data, checked and converted before anything is traced or compiled."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jensen._base.errors import DataError, nearest
from jensen._data.arguments import Given, given
from jensen._data.columns import Place, as_array, as_mapping, first
from jensen._math.precision import Precision, float_type


def named_arrays(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every array of the data (traced ones too) with its name; arrays inside mappings are `outer.inner`."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from named_arrays(value, f"{prefix}{name}.")
        elif hasattr(value, "dtype"):
            yield f"{prefix}{name}", value


def argument_names(fn: Callable[..., Any], skip: int = 0) -> tuple[str, ...] | None:
    """Names of the data that `fn` takes (`skip` leading arguments are not data); `None` where it takes any."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[skip:]
    except (TypeError, ValueError):
        return None
    named = tuple(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else named


def check_names(fn: Callable[..., Any], data: Mapping[str, Any], skip: int = 0) -> None:
    """Raise unless the data's names are exactly those that `fn` takes (`skip` leading arguments are not data)."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[skip:]
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind in kinds]
    check_keys(argument_names(fn, skip), wanted, data)


def check_keys(known: Sequence[str] | None, wanted: Sequence[str], data: Mapping[str, Any]) -> None:
    """Raise for data under names that are not `known` (any is, without them), and for those `wanted` that they lack."""
    for name in data:
        if known is not None and name not in known:
            raise DataError(f"The model takes no argument '{name}'.", f"Data key: '{name}'.", nearest(name, known))
    missing = [name for name in wanted if name not in data]
    if missing:
        raise DataError(
            f"The model needs {', '.join(map(repr, missing))}, which the data lack.",
            f"The data hold {sorted(data) or 'nothing'}.",
            "Pass the missing arrays in `data`, under the model's argument names.",
        )


def convert(
    data: Mapping[str, Any], precision: Precision, place: Place | None = None, copy: bool = True
) -> dict[str, Any]:
    """Data as the model will see them: read-only copies of the arrays, floats in the working precision, made once.

    Without `copy`, read-only views where the type is the one asked for: for a look, while nobody changes them.

    Raises a `DataError` that names the key (and the first offending row) for empty, infinite, masked or non-numeric
    arrays. Missing values (NaN) pass: whether the model masks or fills them is for the analysis to say.
    """
    return {str(name): _convert_one(str(name), value, precision, place, copy) for name, value in data.items()}


def _convert_one(name: str, value: Any, precision: Precision, place: Place | None, copied: bool) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {k: _convert_one(f"{name}.{k}", v, precision, place, copied) for k, v in value.items()}
    if isinstance(value, Given) and not value.flags.writeable and value.dtype == _kind(value, precision):
        return value
    array = as_array(name, value, place)
    if array.size == 0:
        raise DataError(
            f"'{name}' is empty.",
            f"Data key: '{name}', shape {array.shape}.",
            "Leave the key out or pass at least one row.",
        )
    if array.dtype.kind in "iu":
        _check_width(name, array, precision, place)
    kind = _kind(array, precision)
    with np.errstate(over="ignore"):
        copy = _aligned(array, kind) if copied else np.asarray(array, kind)
    if array.dtype.kind == "f":
        _check_finite(name, array, copy, place)
    return given(copy)


def _kind(array: np.ndarray, precision: Precision) -> Any:
    """The type an array has in the working precision: one width of floats and one of integers, whatever it came in."""
    if array.dtype.kind in "iu":
        return np.dtype(np.int64 if precision == "double" else np.int32)
    return np.dtype(float_type(precision)) if array.dtype.kind == "f" else array.dtype


def _check_width(name: str, array: np.ndarray, precision: Precision, place: Place | None) -> None:
    """Raise for whole numbers that the working precision would wrap around."""
    limits = np.iinfo(_kind(array, precision))
    if array.dtype.itemsize > limits.dtype.itemsize or array.dtype.kind == "u":
        beyond = (array > limits.max) | (array < limits.min)
        if beyond.any():
            double = "." if precision == "double" else ", or use precision='double'."
            raise DataError(
                f"'{name}' holds whole numbers beyond {limits.bits} bits.",
                first(name, beyond, place),
                f"Renumber them, or pass them as floats{double}",
            )


def _check_finite(name: str, array: np.ndarray, copy: np.ndarray, place: Place | None) -> None:
    """Raise for infinite values, in the array itself or in its copy of the working precision."""
    infinite = np.isinf(copy) if _suspicious(copy) else np.zeros(0, bool)
    if infinite.any():
        written = np.isinf(array).any()
        raise DataError(
            f"'{name}' holds {int(infinite.sum())} "
            + ("infinite values." if written else f"values that are infinite as {copy.dtype}."),
            first(name, infinite, place),
            "Remove or replace these rows."
            if written
            else "Rescale it."
            if copy.dtype == np.float64
            else "Rescale it, or use precision='double'.",
        )


def _aligned(array: np.ndarray, kind: type) -> np.ndarray:
    """A copy that starts on a 64-byte boundary, which JAX uses on the CPU as it is, without a copy of its own."""
    size = array.size * np.dtype(kind).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + size].view(kind).reshape(array.shape)
    copy[...] = array
    return copy


def _suspicious(array: np.ndarray) -> bool:
    """Whether an array may hold something not finite; one pass, since a sum is finite only if every term is."""
    with np.errstate(all="ignore"):
        return not np.isfinite(array.sum())


class MissingValues(DataError):
    """NaN that nothing fills or leaves out."""


def missing(data: Mapping[str, Any], masked: set[Any]) -> list[str]:
    """The arrays that hold NaN, except those observed at masked sites only."""
    floats = [(name, v) for name, v in named_arrays(data) if v.dtype.kind == "f" and name not in masked]
    return [name for name, value in floats if _suspicious(value) and np.isnan(value).any()]


def refuse_missing(
    data: Mapping[str, Any], name: str, place: Place | None = None, gradient_only: bool = False, compared: bool = False
) -> None:
    """Raise for NaN in this array; `gradient_only` where the log density itself is a number, `compared` where it is one
    because a comparison with NaN has an answer, and a cast of it a value.
    """
    bad = np.isnan(dict(named_arrays(data))[name])
    what = f"'{name}' holds {int(bad.sum())} missing values (NaN)"
    if compared:
        raise MissingValues(
            f"{what}, which the model compares, sorts or casts as if they were numbers.",
            first(name, bad, place),
            f"Say what stands for them before: {name} = jnp.where(jnp.isnan({name}), ..., {name}); or drop these rows.",
        )
    if gradient_only:
        raise MissingValues(
            f"{what}: the log density is a number, but its gradient is not.",
            first(name, bad, place),
            f"Replace them before anything is computed from them, x = jnp.where(jnp.isnan({name}), 0.0, {name}): "
            "jnp.where differentiates both of its branches, the one that is left out too.",
        )
    raise MissingValues(
        f"{what}.",
        first(name, bad, place),
        "Drop these rows, mask them in the model with numpyro.handlers.mask(mask=~isnan(...)), or fill them there, "
        "jnp.where(isnan(...), latent, ...), with a method that takes any density (not cavi, svi or naive).",
    )


def check_missing(data: Mapping[str, Any], masked: set[Any], place: Place | None = None, known: Any = None) -> None:
    """Raise for NaN in any array except those observed only at masked sites.

    `known` are the numbers that were computed from the data: where all of them are finite, the model fills the NaN.
    """
    names = missing(data, masked)
    if names and (known is None or not all(np.isfinite(np.asarray(leaf)).all() for leaf in known)):
        refuse_missing(data, names[0], place)


def fixings(arguments: Mapping[str, Any]) -> tuple[set[str], ...]:
    """Sets of arguments to hold fixed, to be tried in order: what is no array, the integer arrays too, everything.

    A program may need concrete values for some of its arguments, a size computed from an array, say.
    """
    scalars = {k for k, v in arguments.items() if not isinstance(v, (np.ndarray, dict))}
    integers = {k for k, v in arguments.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iub"}
    return scalars, scalars | integers, set(arguments)


__all__ = [
    "MissingValues",
    "Place",
    "as_mapping",
    "check_missing",
    "check_names",
    "convert",
    "fixings",
    "missing",
    "named_arrays",
    "refuse_missing",
]
