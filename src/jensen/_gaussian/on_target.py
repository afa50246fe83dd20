"""Reports and outcomes that say which target their q belongs to, for fits in other coordinates than the model's own."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeVar

from jensen._core import Outcome, Progress

T = TypeVar("T")


def on_target(target: Any, run: Generator[Progress, None, T]) -> Generator[Progress, None, T]:
    """The same run; where it is interrupted, the outcome knows its target."""
    while True:
        try:
            item = next(run)
        except StopIteration as stop:
            return stop.value
        partial = None if item.q is None else lambda q=item.q: Outcome(q, False, "", target=target)
        yield replace(item, q=partial)
