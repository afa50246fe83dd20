"""Modules as named arrays, and back: what a file keeps of a family made of parts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._base.errors import SavedFitError

CLASS = "@"
"""The entry that names a module's class."""


def packed(node: Any, name: str) -> dict[str, np.ndarray]:
    """Every array, number and word of a tree of modules, dictionaries and lists, by its path."""
    if isinstance(node, Mapping):
        return {k: v for key, part in node.items() for k, v in packed(part, f"{name}/{key}").items()}
    if isinstance(node, (list, tuple)):
        return {k: v for i, part in enumerate(node) for k, v in packed(part, f"{name}/#{i}").items()}
    if dataclasses.is_dataclass(node):
        out = {f"{name}/{CLASS}": np.asarray(type(node).__name__)}
        for part in dataclasses.fields(node):
            out |= packed(getattr(node, part.name), f"{name}/{part.name}")
        return out
    if isinstance(node, (int, float, str, np.generic)) or hasattr(node, "shape"):
        return {name: np.asarray(node)}
    return {}  # a function, say: the class makes its own


def named(base: type) -> dict[str, Any]:
    """The classes that derive from `base`, by name; where two have one name, jensen's own, then the later one."""
    found, every = [], [base]
    while every:
        found.append(every[0])
        every = [*every[1:], *every[0].__subclasses__()]
    return {cls.__name__: cls for cls in sorted(found, key=lambda cls: cls.__module__.split(".")[0] == "jensen")}


def known(name: str, classes: Mapping[str, Any]) -> Any:
    """The class of this name; raises where the program that reads a file has none."""
    if name not in classes:
        raise SavedFitError(
            f"The approximation is a {name}, a class that this program does not have.",
            "The arrays of q.",
            "Import the module that defines the class, then load the file.",
        )
    return classes[name]


def unpacked(arrays: Mapping[str, np.ndarray], name: str, classes: Mapping[str, Any]) -> Any:
    """The inverse of `packed`, with the classes by name; a class may be a function of the saved fields."""
    if name in arrays:
        value = arrays[name]
        return value.item() if value.dtype.kind in "iU" and value.ndim == 0 else value
    start = f"{name}/"
    keys = dict.fromkeys(k[len(start) :].partition("/")[0] for k in arrays if k.startswith(start))
    parts = {key: unpacked(arrays, start + key, classes) for key in keys if key != CLASS}
    if CLASS in keys:
        return known(str(arrays[start + CLASS]), classes)(**parts)
    if parts and all(key.startswith("#") for key in parts):
        return [parts[f"#{i}"] for i in range(len(parts))]
    return parts
