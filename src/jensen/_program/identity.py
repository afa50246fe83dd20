"""What a user's function computes, as a key: its code and everything outside its arguments that the code can see.

Two functions with equal keys do the same with the same arguments, so that an analysis of one serves the other. A
function that sees something whose content cannot be told (an object of the user's own, say) has no key.
"""

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from numpyro.primitives import _PYRO_STACK

from jensen._program.user_code import is_user_file

LARGEST = 4_000_000
"""Bytes of an array beyond which its content is not worth reading."""


class _Unknown(Exception):
    """Something whose content cannot be told."""


class _Same:
    """An immutable object, compared by identity and kept alive by the key."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def program_key(fn: Callable[..., Any]) -> Hashable | None:
    """The key of a function; `None` where it has none, and under NumPyro handlers, which change what it does."""
    if _PYRO_STACK:
        return None
    try:
        return _content(fn, frozenset(), frozenset())
    except _Unknown:
        return None


def _content(value: Any, names: frozenset[str], inside: frozenset[int]) -> Hashable:
    """The content of a value; `names` are the attributes that the code reads, `inside` the objects being read."""
    if id(value) in inside:
        return "recursion"
    if value is None or type(value) in (bool, int, str, bytes, complex):
        return type(value).__name__, value
    if type(value) in (float, np.ndarray) or isinstance(value, np.generic):
        array = np.asarray(value)
        if array.dtype == object or array.nbytes > LARGEST:
            raise _Unknown
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
        return type(value).__name__, array.shape, array.dtype.str, digest
    if isinstance(value, jax.Array) and not isinstance(value, Tracer):
        return _Same(value)
    inside = inside | {id(value)}
    if type(value) in (tuple, list):
        return type(value).__name__, tuple(_content(item, names, inside) for item in value)
    if type(value) is dict:
        return "dict", tuple((_content(k, names, inside), _content(v, names, inside)) for k, v in value.items())
    if isinstance(value, functools.partial):
        return "partial", _content((value.func, value.args, value.keywords), names, inside)
    if isinstance(value, types.ModuleType):
        return _module(value, names, inside)
    if isinstance(value, types.FunctionType) and is_user_file(value.__code__.co_filename):
        return _function(value, inside)
    if callable(value) and _from_library(value):
        return _Same(value)
    raise _Unknown


def _function(fn: types.FunctionType, inside: frozenset[int]) -> Hashable:
    names = frozenset(_names(fn.__code__))
    seen = {name: fn.__globals__[name] for name in sorted(names) if name in fn.__globals__}
    if any(_is_users(sys.modules.get(name)) for name in names - set(seen)):  # imported inside the function
        raise _Unknown
    try:
        cells = tuple(cell.cell_contents for cell in fn.__closure__ or ())
    except ValueError:  # not yet filled
        raise _Unknown from None
    outside = (cells, fn.__defaults__, fn.__kwdefaults__, seen)
    return fn.__code__, fn.__code__.co_filename, _content(outside, names, inside)


def _names(code: types.CodeType) -> set[str]:
    """Globals and attributes that the code names, functions written inside it included."""
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _names(const)
    return found


def _module(module: types.ModuleType, names: frozenset[str], inside: frozenset[int]) -> Hashable:
    if not _is_users(module):
        return "module", module.__name__
    seen = {name: vars(module)[name] for name in sorted(names) if name in vars(module)}
    return "module", module.__name__, _content(seen, names, inside)


def _is_users(module: types.ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and is_user_file(file)


def _from_library(value: Any) -> bool:
    """Whether a callable is a function or class of an installed library, whose code stays what it is."""
    if getattr(value, "__closure__", None):  # what it holds may be the user's
        return False
    routine = inspect.isroutine(value) and not inspect.ismethod(value)
    if not (routine or inspect.isclass(value) or hasattr(value, "__wrapped__")):
        return False
    name = getattr(value, "__module__", None)
    if name == "builtins":
        return True
    module = sys.modules.get(name or "")
    return module is not None and name != "__main__" and not _is_users(module)


__all__ = ["program_key"]
