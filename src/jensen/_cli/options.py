"""`--method NAME --option key=value` as a method object."""

import ast
import dataclasses
import typing
from typing import Any

from jensen._base.errors import OptionError
from jensen._core import AbstractAlgorithm
from jensen._core.options import fits, words
from jensen._fit import methods


def parse_method(name: str, options: list[str]) -> AbstractAlgorithm:
    """The method with its options; raises an `OptionError` for an unknown name or a value of the wrong type."""
    default = methods.resolve(name)
    values = dict(parse_option(option) for option in options)
    hints = typing.get_type_hints(type(default))
    fields = {field.name for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key in fields and not fits(value, hints[key]):
            raise OptionError(
                f"{name} option '{key}' takes {words(hints[key])}, not {value!r}.", f"Option: --option {key}={value}."
            )
    return getattr(methods, name)(**values)


def parse_option(text: str) -> tuple[str, Any]:
    """`key=value`; numbers, True, False and None are read as Python does, anything else is text."""
    key, equals, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key.isidentifier():
        raise OptionError(
            f"'{text}' is not an option of the form key=value.",
            f"Option: --option {text}.",
            "Write, for example, --option family=full_rank.",
        )
    try:
        return key, ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return key, value.strip()
