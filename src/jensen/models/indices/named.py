"""NumPy arrays that carry their data key through NumPy's own arithmetic, for programs that need concrete arrays."""

from functools import partial
from typing import Any

import numpy as np

from jensen.models.given import Given
from jensen.models.indices.known import Known


class Named(Given):
    """An array of the data, or one that NumPy made of it; every one made is listed in `made`."""

    keys: frozenset[str] = frozenset()
    made: "list[Named] | None" = None

    def __array_finalize__(self, obj: Any) -> None:
        if isinstance(obj, Named):
            self.keys, self.made = obj.keys, obj.made
            if self.made is not None:
                self.made.append(self)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions, whose results carry the key too."""
        result = super().__array_function__(func, types, args, kwargs)
        plain = type(result) is np.ndarray and result.dtype.kind in "iufb"
        return result.view(Named)._of(self) if plain else result

    def _of(self, other: "Named") -> "Named":
        self.keys, self.made = other.keys, other.made
        if self.made is not None:
            self.made.append(self)
        return self


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
