"""Whether an option has the type that its method declares, in words."""

import types
import typing
from typing import Any


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a declared type; the names of a `Literal` are for the method itself to compare."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return isinstance(value, str)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if hint is type(None):
        return value is None
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def words(hint: Any) -> str:
    """The declared type as a user would say it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(words(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}.get(
        hint, str(hint)
    )
