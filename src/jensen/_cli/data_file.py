"""Data files: JSON, CSV, NumPy archives and Parquet, as arrays by name."""

import csv
import gzip
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jensen._base.errors import DataError
from jensen._base.extras import require

SUFFIXES = (".json", ".csv", ".tsv", ".csv.gz", ".npz", ".parquet", ".pq")


@dataclass(frozen=True)
class DataFile:
    """What was read: arrays by name. A *table* may have columns that the model does not use."""

    arrays: dict[str, Any]
    is_table: bool


def read_data(path: Path) -> DataFile:
    """Read a file by its suffix.

    JSON: an object of names -> numbers or (nested) lists, or a list of rows; npz: arrays by name (without pickle);
    CSV, TSV and Parquet: one array for each column. Raises a `DataError` that names the file and
    the line, where known.
    """
    readers = {".json": _json, ".npz": _npz, ".parquet": _parquet, ".pq": _parquet}
    readers |= {".csv": _csv, ".tsv": _csv, ".csv.gz": _csv}
    name = path.name.lower()
    suffix = max((s for s in SUFFIXES if name.endswith(s)), key=len, default="")
    if not suffix:
        raise DataError(
            f"'{path.name}' is not a data file that jensen reads.",
            f"File: {path}.",
            f"Use one of {', '.join(SUFFIXES)}.",
        )
    if not path.is_file():
        raise DataError(
            "The data file does not exist." if not path.exists() else "The data file is not a file.",
            f"File: {path}.",
            "Check the path given to --data.",
        )
    return readers[suffix](path)


def _json(path: Path) -> DataFile:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"The data file is not valid JSON: {error.msg}.", _at(path, error.lineno, error.colno)
        ) from error
    except UnicodeDecodeError as error:
        raise DataError("The data file is not UTF-8 text.", f"File: {path}.", "Save it as UTF-8.") from error
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        names = list(content[0])
        for number, row in enumerate(content):
            if set(row) != set(names):
                raise DataError(
                    f"Row {number} has the keys {sorted(row)}, row 0 has {sorted(names)}.",
                    f"File: {path}.",
                    "Give every row the same keys.",
                )
        return DataFile({name: [row[name] for row in content] for name in names}, True)
    if not isinstance(content, dict):
        raise DataError(
            f"The data file holds a JSON {_kind(content)}, not an object.",
            f"File: {path}.",
            'Write {"x": [...], "y": [...]}, or a list of rows.',
        )
    return DataFile(content, False)


def _kind(content: Any) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(content), "number")


def _at(path: Path, line: int, column: int) -> str:
    return f"File: {path}, line {line}, column {column}."


def _npz(path: Path) -> DataFile:
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            "The data file is not a readable .npz archive.", f"File: {path}.", "Use numpy.savez."
        ) from error
    if isinstance(archive, np.ndarray):
        raise DataError("The file holds one array without a name.", f"File: {path}.", "Use numpy.savez(path, y=y).")
    arrays = {}
    with archive:
        for name in archive.files:
            try:
                array = archive[name]
            except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
                raise DataError(
                    f"The array '{name}' cannot be read ({error}).", f"File: {path}.", "Store numeric arrays only."
                ) from error
            arrays[name] = array.item() if array.ndim == 0 and array.dtype.kind in "iubU" else array
    return DataFile(arrays, False)


def _csv(path: Path) -> DataFile:
    import pandas as pd

    separator = "\t" if path.name.lower().endswith(".tsv") else ","
    try:
        _check_fields(path, separator)
        frame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    except DataError:
        raise
    except (ValueError, EOFError, OSError, csv.Error) as error:  # pandas' own errors are ValueErrors
        reason = str(error).strip().removesuffix(".").removeprefix("Error tokenizing data. C error: ")
        raise DataError(f"The data file cannot be read as a table ({reason}).", f"File: {path}.") from error
    return _columns(frame, path)


def _check_fields(path: Path, separator: str) -> None:
    """Raise for a row with more or fewer fields than the header, which pandas shifts or fills up without a word."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        header = [name.strip() for name in next((row for row in reader if row), [])]
        twice = [name for name in header if name and header.count(name) > 1]
        if twice:
            raise DataError(f"The header has the name '{twice[0]}' twice.", f"File: {path}.", "Rename one column.")
        other = next((s for s in ";|\t," if s != separator and len(header) == 1 and s in header[0]), None)
        if other is not None:
            shown = {"\t": "a tab"}.get(other, f"'{other}'")
            raise DataError(
                f"The header '{header[0]}' is one field: the columns seem to be separated by {shown}.",
                f"File: {path}, line 1.",
                "Separate the fields by commas in a .csv file, and by tabs in a .tsv file.",
            )
        rows = (row for row in reader if row and (row != [""] or len(header) == 1))
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise DataError(
                    f"The data file cannot be read as a table: row {number} has {len(row)} fields, and the header has "
                    f"{len(header)} names.",
                    f"File: {path}, line {reader.line_num}.",
                    "Give every row one field for each name (a comma within a field needs quotes around the field; a "
                    "missing value is an empty field).",
                )


def _parquet(path: Path) -> DataFile:
    import pandas as pd

    require("pyarrow")
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are among them
        raise DataError("The data file is not a readable Parquet file.", f"File: {path}.") from error
    return _columns(frame, path)


def _columns(frame: Any, path: Path) -> DataFile:
    if frame.empty:
        raise DataError("The table has no rows.", f"File: {path}, columns {list(frame.columns)}.")
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    return DataFile({name: _stacked(values) for name, values in columns.items()}, True)


def _stacked(values: np.ndarray) -> np.ndarray:
    """A column of text as text, and one of equally long lists as one array of two axes or more."""
    if values.dtype == object and all(isinstance(value, str) for value in values):
        return values.astype(str)
    if values.dtype == object and isinstance(values[0], (np.ndarray, list)):
        try:
            return np.stack([_stacked(np.asarray(value)) for value in values])
        except ValueError:
            return values
    return values
