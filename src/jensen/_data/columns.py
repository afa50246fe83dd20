"""One value of the data as an array of numbers, whatever library it comes from."""

import numbers
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from jensen._base.errors import DataError

Place: TypeAlias = Callable[[str, int], str]
"""(data key, index along the first axis) -> what the user calls that row."""


def columns_of(table: Any) -> list[Any] | None:
    """The names of the columns of a table (pandas, polars, pyarrow, a structured array); `None` for anything else."""
    if isinstance(table, np.ndarray):
        return list(table.dtype.names) if table.dtype.names else None
    names = getattr(table, "column_names", getattr(table, "columns", None))
    if names is None or isinstance(table, (Mapping, type)) or not hasattr(table, "__getitem__"):
        return None
    names = list(names)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(
            f"The table has {names.count(twice[0])} columns named '{twice[0]}'.",
            "Argument: data.",
            "Rename all but one of them, or leave them out.",
        )
    return names


def as_mapping(data: Any) -> Mapping[str, Any]:
    """The data by name: no data as an empty mapping, a table by its columns; raise for anything that has no names."""
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return data
    columns = columns_of(data)
    if columns is not None:
        return {str(name): data[name] for name in columns}
    if callable(data) or hasattr(data, "shapes_or_init"):
        raise DataError(
            f"`data` is a {type(data).__name__}, not arrays by name: are model and data swapped?",
            "Arguments: model, data.",
            "Pass the model first: jn.fit(model, data).",
        )
    name = getattr(data, "name", None)
    raise DataError(
        f"`data` must map the model's argument names to arrays, not be a {type(data).__name__}.",
        "Argument: data.",
        f"Pass a dict such as {{{str(name or 'y')!r}: ...}}, or a table with one column for each argument.",
    )


def as_array(name: str, value: Any, place: Place | None = None) -> np.ndarray:
    """The numbers in `value`; raises a `DataError` that names the key (and the row) where some are none.

    Missing values of other libraries (None, pandas' NA, nulls) become NaN. What is hidden by a NumPy mask, and
    categories whose codes are not their values, are refused: what they mean is the user's to say.
    """
    _check_mask(name, value, place)
    if isinstance(value, np.ma.MaskedArray):
        value = value.data
    columns = columns_of(value)
    if columns is not None and not isinstance(value, np.ndarray):
        return np.stack([as_array(f"{name}.{column}", value[column], place) for column in columns], axis=1)
    if hasattr(getattr(value, "dtype", None), "categories"):
        value = _categories(name, value)
    if hasattr(value, "isna") and hasattr(value, "to_numpy") and hasattr(value.dtype, "na_value"):
        value = _nullable(value)
    try:
        array = np.asanyarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"'{name}' cannot be read as an array ({error}).",
            f"Data key: '{name}'.",
            "Pass a rectangular numeric array.",
        ) from error
    if isinstance(array, np.ma.MaskedArray):  # from an object that makes one of itself
        return as_array(name, array, place)
    array = np.asarray(array)
    if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, np.floating):  # bfloat16 and narrower ones
        array = array.astype(np.float32)
    if array.dtype.kind in "OSUmMVc":
        array = _numbers(name, array, value, place)
    return array


def first(name: str, bad: np.ndarray, place: Place | None = None) -> str:
    """Where the first of them is: `Data key: 'y', first at row 3`."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    words = f"row {index[0]}" if len(index) == 1 else f"index {index}" if index else "the scalar"
    if place is not None and index:
        words = place(name, index[0]) + (f", entry {index[1:]}" if len(index) > 1 else "")
    return f"Data key: '{name}', first at {words}."


def _check_mask(name: str, value: Any, place: Place | None) -> None:
    """Raise where a NumPy mask hides values, in `value` itself or in the lists that it consists of."""
    hidden = _mask(value)
    if hidden is not None and np.any(hidden):
        raise DataError(
            f"'{name}' is a masked array that hides {int(np.sum(hidden))} of {np.size(hidden)} values.",
            first(name, np.asarray(hidden), place),
            f"Drop what is hidden ({name}.compressed() for one axis), or pass {name}.filled(numpy.nan) and leave these "
            "values out in the model with numpyro.handlers.mask(mask=~isnan(...)).",
        )


def _mask(value: Any) -> np.ndarray | None:
    """Which entries a mask hides; `None` where nothing is masked."""
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        fields: Any = mask.dtype.names
        return mask if fields is None else np.any([mask[field] for field in fields], axis=0)
    if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.dtype == object):
        return None
    parts = [] if isinstance(value, np.ndarray) and not value.ndim else [_mask(part) for part in value]
    if all(part is None for part in parts):
        return None
    whole = [np.zeros(np.shape(v), bool) if m is None else m for v, m in zip(value, parts, strict=True)]
    return np.stack(whole) if len({m.shape for m in whole}) == 1 else np.array([m.any() for m in whole])


def _categories(name: str, value: Any) -> Any:
    """A categorical column whose categories are 0..K-1 as these numbers, missing ones as NaN."""
    categories = list(value.dtype.categories)
    codes = np.asarray(getattr(value, "cat", value).codes, int)
    if all(not isinstance(c, str) for c in categories) and categories == list(range(len(categories))):
        return codes if (codes >= 0).all() else np.where(codes < 0, np.nan, codes)
    shown = ", ".join(map(repr, categories[:4])) + (", ..." if len(categories) > 4 else "")
    raise DataError(
        f"'{name}' is a categorical column with the categories {shown}, which are not the numbers 0..K-1.",
        f"Data key: '{name}'.",
        f"Pass its codes, pandas.Categorical({name}).codes, to use it as an index or as labels (-1 there is a missing "
        "value), or numbers of your own.",
    )


def _nullable(value: Any) -> np.ndarray:
    """A pandas column that may hold NA: integers and booleans as such where all are there, else floats and NaN."""
    kind, numpy_type = getattr(value.dtype, "kind", "O"), getattr(value.dtype, "numpy_dtype", None)
    if kind not in "iubf":
        return value.to_numpy(dtype=object)
    if kind != "f" and not np.asarray(value.isna()).any():
        return value.to_numpy(dtype=numpy_type)
    return value.to_numpy(dtype=float, na_value=np.nan)


def _numbers(name: str, array: np.ndarray, value: Any, place: Place | None) -> np.ndarray:
    """An array of Python objects as one of bools, integers or floats, if all of them are numbers or missing."""
    if array.dtype == object and array.ndim == 0 and hasattr(value, "toarray"):
        return as_array(name, value.toarray(), place)
    if array.dtype == object:
        found = [_number(entry) for entry in array.reshape(-1)]
        if all(one is not None for one in found):
            if all(isinstance(one, (bool, int)) for one in found):
                small = [abs(int(one)) < 2**63 for one in found]  # type: ignore[arg-type]
                if not all(small):
                    raise DataError(
                        f"'{name}' holds whole numbers beyond 64 bits.",
                        first(name, ~np.reshape(small, array.shape), place),
                        "Renumber them, or pass them as floats.",
                    )
            return np.array(found).reshape(array.shape)
        bad = np.array([one is None for one in found]).reshape(array.shape)
        entry = array.reshape(-1)[np.argmax(bad.reshape(-1))]
        shown = f" ({entry!r})" if isinstance(entry, str) and len(entry) < 40 else ""
        raise DataError(
            f"'{name}' holds an entry of type {type(entry).__name__}{shown}, which is no number.",
            first(name, bad, place),
            "Encode categories as integers 0..K-1 and dates as numbers; rows of differing lengths go into jn.Ragged.",
        )
    kind = "text" if array.dtype.kind in "SU" else str(array.dtype)
    fields = array.dtype.names
    raise DataError(
        f"'{name}' has dtype {kind}, which no density can use.",
        f"Data key: '{name}', shape {array.shape}.",
        f"Pass its fields one by one, {name}[{fields[0]!r}] and so on."
        if fields
        else "Encode categories as integers 0..K-1 and dates as numbers.",
    )


def _number(entry: Any) -> bool | int | float | None:
    """A Python number, NaN for a missing one; `None` for what is no number."""
    if entry is None or type(entry).__name__ in ("NAType", "NaTType"):
        return float("nan")
    if isinstance(entry, (bool, np.bool_)):
        return bool(entry)
    if isinstance(entry, numbers.Integral):
        return int(entry)
    if isinstance(entry, (numbers.Real, Decimal)):
        return float(entry)
    if hasattr(entry, "dtype") and np.ndim(entry) == 0 and np.asarray(entry).dtype.kind in "iubf":
        return np.asarray(entry).item()
    return None
