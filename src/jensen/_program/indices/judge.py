"""Whether an index lies within the axis that it looks up, and what to say where it does not."""

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jensen._base.errors import DataError, ModelError
from jensen._data.data_check import Place
from jensen._program.folding import called
from jensen._program.indices.known import MISSING, Known, origin
from jensen._program.indices.needed import encodes
from jensen._program.indices.walk import Lookup
from jensen._program.positions import scatter_sizes
from jensen._program.user_code import is_user_file

MOST = 100
"""Bad entries that are looked at until one comes from the data."""
OBSERVED = "values observed at "
"""Begins the name scope of a site's log density, where an index is a category that was observed."""


@dataclass(frozen=True, eq=False)
class Outside:
    """Entries of an index that lie outside 0..limit.

    Attributes:
        lookup: where. column: which of the axes that the index gives. limit: the largest start allowed.
        values: the index as the program wrote it, its columns last; bad: which of its entries in the column are meant.
    """

    lookup: Lookup
    column: int
    limit: int
    values: Known
    bad: np.ndarray

    def entries(self) -> Iterator[tuple[Known, int, Any]]:
        """(array, flat position, value) of the bad entries, before the moves that made the index of it."""
        columns = self.values.array.reshape(*self.bad.shape, -1).shape[-1]
        for place in np.flatnonzero(self.bad):
            source, flat = self.values, int(place) * columns + self.column
            value = source.array.flat[flat]
            while source.moved and source.back is not None:
                found = source.back(flat)
                if found is None:
                    break
                source, flat = found
            yield source, flat, value


def outside(lookup: Lookup) -> list[Outside]:
    """What of an index lies outside; an index that the program clips or fills on purpose is left alone."""
    scalar = lookup.eqn.primitive.name.startswith("dynamic") or chooses(lookup.eqn) or encodes(lookup.eqn)
    values = (lookup.index.clamped if chooses(lookup.eqn) else lookup.index.before) or lookup.index
    array = values.array
    if array.dtype.kind not in "iu":
        return []
    array = array[..., None] if scalar else array
    seen = lookup.index.seen
    found = []
    for column, limit in enumerate(_limits(lookup)):
        entries = array[..., column]
        negative, beyond = entries < 0, entries > limit
        if not scalar:
            negative, beyond = _meant(lookup, negative, beyond)
        if beyond.any() and not scalar and asks_for_mode(lookup.eqn):
            beyond = np.zeros_like(beyond)
            negative = negative if lookup.index.before is not None else beyond
        bad = negative | beyond
        if encodes(lookup.eqn) and bad.any() and _reference(lookup, limit, set(entries[bad].tolist())):
            continue
        bad = bad if seen is None else bad & seen.reshape(array.shape)[..., column]
        if bad.any():
            found.append(Outside(lookup, column, limit, values, bad))
    return found


def chooses(eqn: Any) -> bool:
    """Whether an index chooses a branch or a case, rather than an entry of an axis."""
    return eqn.primitive.name in ("cond", "select_n")


def _reference(lookup: Lookup, limit: int, out: set[int]) -> bool:
    """Whether one category is encoded by zeros on purpose: the one below the first that has a column, or the last.

    It is not where -1 stands in the data themselves, the code of a missing category; nor where 0 does not occur among
    the others, which are then numbered from 1.
    """
    index = lookup.index
    if out == {-1}:
        places = np.flatnonzero(index.array == -1)
        leaf, at = origin(index, int(places[0]))
        return leaf.name is None or leaf.array.flat[at] != -1
    return out == {limit + 1} and bool((index.array == 0).any())


def _limits(lookup: Lookup) -> list[int]:
    eqn, shape = lookup.eqn, lookup.eqn.invars[0].aval.shape
    if encodes(eqn):
        inner: Any = (called(eqn) or (None,))[0]
        return [next(e.params["shape"][e.params["dimension"]] for e in inner.eqns if e.primitive.name == "iota") - 1]
    if chooses(eqn):
        return [len(eqn.params["branches"] if "branches" in eqn.params else eqn.invars[1:]) - 1]
    name = eqn.primitive.name
    if name == "gather":
        axes = eqn.params["dimension_numbers"].start_index_map
        return [shape[axis] - eqn.params["slice_sizes"][axis] for axis in axes]
    if name.startswith("scatter"):
        sizes = scatter_sizes(eqn)
        return [shape[axis] - sizes[axis] for axis in eqn.params["dimension_numbers"].scatter_dims_to_operand_dims]
    updated = name == "dynamic_update_slice"
    axis = lookup.operand - (2 if updated else 1)
    sizes = eqn.invars[1].aval.shape if updated else eqn.params["slice_sizes"]
    return [shape[axis] - sizes[axis]]


def _meant(lookup: Lookup, negative: Any, beyond: Any) -> tuple[Any, Any]:
    """What is an error: not what mode="clip" or a fill value allow, which the program asked for."""
    params = lookup.eqn.params
    mode, counted = params["mode"].name, lookup.index.before is not None
    signed = lookup.index.array.dtype.kind == "i"
    none = np.zeros_like(negative)
    if mode == "CLIP" and not counted and signed:
        return none, none
    fill = params.get("fill_value")
    if mode == "FILL_OR_DROP" and fill is not None and not np.isnan(fill):
        return (negative if counted else none), none
    return negative, beyond


def error_for(found: Outside, place: Place | None, scalars: dict[int, Known]) -> DataError | ModelError | None:
    """The error that names the data and the row, or the line of the program; `None` for a legal constant.

    `scalars` are the numbers that the program took from concrete arrays of the data.
    """
    for number, (source, flat, value) in enumerate(found.entries()):
        written = source.back is None and not source.array.ndim
        if written and not source.keys and int(value) in scalars:
            source, flat = scalars[int(value)], 0
        if source.keys:
            return _of_data(found, source, flat, int(value), place)
        if encodes(found.lookup.eqn):
            return None
        beyond = int(value) > found.limit or int(value) < -1 - found.limit
        if beyond and (written or found.lookup.eqn.primitive.name == "gather"):
            return _of_program(found, int(value))
        if number == MOST:
            break
    return None


def _of_program(found: Outside, value: int) -> ModelError:
    count, line = found.limit + 1, line_of(found.lookup.eqn) or "In the model."
    if chooses(found.lookup.eqn):
        what = f"The program takes branch {value} of {count}, 0..{found.limit}."
        return ModelError(what, line, "Number the branches from 0, or give more of them.")
    what = f"The program looks up entry {value} of an axis that has {count}, 0..{found.limit}."
    return ModelError(what, line, "Number the entries from 0, or give the axis more of them.")


def _of_data(found: Outside, source: Known, flat: int, value: int, place: Place | None) -> DataError:
    leaf, at = origin(source, flat)
    key = leaf.name or sorted(source.keys)[0]
    many = int(found.bad.sum())
    given = leaf.array.flat[at] if leaf.name else None
    first = f"the first is {given}" if given is not None else f"the first is {value}"
    if given is not None and given != value:
        first += f", of which the program makes {value}"
    where = f"Data key: '{key}'"
    if leaf.name is not None and leaf.array.ndim:
        where += f", first at {_row(leaf, at, place)}"
    site = _observed(found.lookup)
    if site is not None:
        values = f"{many} values of '{site[0]}' lie" if many > 1 else f"A value of '{site[0]}' lies"
        return DataError(
            f"{values} outside 0..{found.limit}, the support of {site[1]}; {first}.",
            f"Site '{site[0]}'. {where}.",
            f"Number the categories 0..{found.limit}; correct or remove the other rows.",
        )
    what = f"'{key}' gives {many} indices" if many > 1 else f"'{key}' gives an index"
    line = line_of(found.lookup.eqn)
    of_what = (
        "the branches of a choice"
        if chooses(found.lookup.eqn)
        else "the columns of a one-hot encoding, which is a row of zeros there"
        if encodes(found.lookup.eqn)
        else "the entries of the axis that is looked up"
    )
    return DataError(
        f"{what} outside 0..{found.limit}, {of_what}; {first}.",
        f"{where}. {line}",
        _remedy(found, value),
    )


def _observed(lookup: Lookup) -> tuple[str, str] | None:
    """(site, distribution) where the index is the value observed at a site."""
    scope = str((lookup.path or (lookup.eqn,))[0].source_info.name_stack)
    start = scope.find(OBSERVED)
    if start < 0:
        return None
    name, _, kind = scope[start + len(OBSERVED) :].partition("|")
    return name, kind.split("/")[0]


def _row(leaf: Known, flat: int, place: Place | None) -> str:
    index = tuple(int(i) for i in np.unravel_index(flat, leaf.array.shape))
    if place is not None:
        return place(str(leaf.name), index[0]) + (f", entry {index[1:]}" if len(index) > 1 else "")
    return f"row {index[0]}" if len(index) == 1 else f"index {index}"


def _remedy(found: Outside, value: int) -> str:
    array = found.values.array
    choice = chooses(found.lookup.eqn)
    whole = choice or encodes(found.lookup.eqn) or found.lookup.eqn.primitive.name.startswith("dynamic")
    entries = array if whole else array[..., found.column]
    low, high = int(entries.min()), int(entries.max())
    if choice:
        return f"Number the branches 0..{found.limit}."
    if value == -1:
        return MISSING
    if low >= 1 and high == found.limit + 1:
        return f"Number the groups from 0: subtract 1, so that they run over 0..{found.limit}."
    if encodes(found.lookup.eqn):
        return f"Number the groups 0..{found.limit}, or multiply by what is meant: (g < n)[:, None] * one_hot(g, n)."
    return f"Number the groups 0..{found.limit} without gaps, or give the axis one entry for each."


def line_of(eqn: Any) -> str:
    """`At model.py line 12: y = ...` of the innermost frame of the user's own code; empty if there is none."""
    frame = _frame(eqn)
    if frame is None:
        return ""
    line = linecache.getline(frame.file_name, frame.line_num).strip()
    return f"At {Path(frame.file_name).name} line {frame.line_num}: {line}."


def _frame(eqn: Any) -> Any:
    frames = getattr(getattr(eqn.source_info, "traceback", None), "frames", ())
    return next((frame for frame in frames if is_user_file(frame.file_name)), None)


def asks_for_mode(eqn: Any) -> bool:
    """Whether the user's own statement says what happens outside: x.at[i].add(y, mode="drop"), say."""
    frame = _frame(eqn)
    if frame is None:
        return False
    try:
        tree = ast.parse("".join(linecache.getlines(frame.file_name)))
    except SyntaxError:
        return False
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.lineno <= frame.line_num <= (node.end_lineno or node.lineno)
    ]
    words = [word.value for node in inside for word in node.keywords if word.arg == "mode"]
    return any(getattr(word, "value", None) != "promise_in_bounds" for word in words)
