"""NumPy arrays that carry their data key through NumPy's own arithmetic, for programs that need concrete arrays."""

from functools import partial
from typing import Any

import numpy as np

from jensen._base.errors import DataError
from jensen._data.arguments import Given
from jensen._program.indices.known import MISSING, Known


class Named(Given):
    """An array of the data, or one that NumPy made of it; every one made is listed in `made`."""

    keys: frozenset[str] = frozenset()
    made: "list[Named] | None" = None

    def __array_finalize__(self, obj: Any) -> None:
        if isinstance(obj, Named):
            self.keys, self.made = obj.keys, obj.made
            if self.made is not None:
                self.made.append(self)

    def __getitem__(self, index: Any) -> Any:
        _check_own(index)
        return self._kept(super().__getitem__(index))

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        del context, return_scalar  # numbers stay arrays, which carry their key
        return self._kept(array)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions, whose results carry the key too."""
        if func is np.take:
            _check_own(args[1] if len(args) > 1 else kwargs.get("indices"))
        return self._kept(super().__array_function__(func, types, args, kwargs))

    def _kept(self, result: Any) -> Any:
        plain = type(result) is np.ndarray or isinstance(result, np.generic)
        return np.asarray(result).view(Named)._of(self) if plain and result.dtype.kind in "iufb" else result

    def _of(self, other: "Named") -> "Named":
        self.keys, self.made = other.keys, other.made
        if self.made is not None:
            self.made.append(self)
        return self


def _check_own(index: Any) -> None:
    """Raise for a negative index of the data, which NumPy counts from the end; one beyond the axis NumPy refuses."""
    for part in index if isinstance(index, tuple) else (index,):
        if (
            isinstance(part, Named)
            and part.keys
            and part.dtype.kind in "iu"
            and part.size
            and (np.asarray(part) < 0).any()
        ):
            key, negative = min(part.keys), np.asarray(part) < 0
            first = np.flatnonzero(negative.reshape(-1))[0]
            value = np.asarray(part).reshape(-1)[first]
            raise DataError(
                f"'{key}' gives a negative index, {value}, which NumPy counts from the end.",
                f"Data key: '{key}'" + (f", first at entry {first} of the index." if part.ndim else "."),
                MISSING,
            )


def numbers(made: list[Named], leaves: dict[str, Known]) -> dict[int, Known]:
    """The whole numbers that a program took from concrete arrays of the data, with the first entry that holds each."""
    found: dict[int, Known] = {}
    for one in made:
        if one.ndim or one.dtype.kind not in "iu" or int(one) in found:
            continue
        leaf = leaves.get(min(one.keys))
        places = [] if leaf is None else np.flatnonzero(leaf.array.reshape(-1) == int(one))
        back = partial(_same, leaf, int(places[0])) if leaf is not None and len(places) else None
        found[int(one)] = Known(np.asarray(one), one.keys, back=back)
    return found


def _same(leaf: Known, place: int, flat: int) -> tuple[Known, int]:
    del flat
    return leaf, place


def named(arguments: Any, made: list[Named], prefix: str = "") -> Any:
    """The arguments with their NumPy arrays named."""
    if isinstance(arguments, dict):
        return {name: named(value, made, f"{prefix}.{name}" if prefix else name) for name, value in arguments.items()}
    if not isinstance(arguments, np.ndarray) or arguments.dtype.kind not in "iufb":
        return arguments
    found = arguments.view(Named)
    found.keys, found.made = frozenset([prefix]), made
    made.append(found)
    return found


def known(const: Any, made: list[Named], leaves: dict[str, Known]) -> Any:
    """A constant of a traced program as what it is of the data, if it is one of the arrays that were made of them.

    JAX keeps the entries of such an array, not the array itself.
    """
    try:
        array = np.asarray(const)
    except (TypeError, ValueError):
        return const
    if array.dtype.kind not in "iu" or not array.ndim:
        return const
    for leaf in leaves.values():
        if leaf.array.shape == array.shape and np.array_equal(leaf.array, array):
            return Known(array, leaf.keys, name=leaf.name)
    for one in made:
        if one.shape == array.shape and np.array_equal(one, array):
            leaf = leaves.get(min(one.keys))
            if leaf is None or leaf.array.size != array.size:
                return Known(array, one.keys)
            return Known(array, one.keys, back=partial(_at, leaf))
    return const


def _at(leaf: Known, flat: int) -> tuple[Known, int]:
    return leaf, flat
