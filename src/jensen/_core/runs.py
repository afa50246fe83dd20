"""Runs inside runs: a generator of reports whose reports are rewritten, or that is driven to its end."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


def relayed(run: Generator[Item, None, T], change: Callable[[Item], Any]) -> Generator[Any, None, T]:
    """The run, with `change` of everything that it yields; what it returns stays as it is."""
    while True:
        try:
            item = next(run)
        except StopIteration as stop:
            return stop.value
        yield change(item)


def driven(run: Generator[Item, None, T]) -> tuple[list[Item], T]:
    """(everything that the run yields, what it returns)."""
    items: list[Item] = []
    while True:
        try:
            items.append(next(run))
        except StopIteration as stop:
            return items, stop.value
