"""What tests do with runs of algorithms."""

from collections.abc import Generator
from typing import Any


def ended(run: Generator[Any, None, Any]) -> Any:
    """What a run of reports returns."""
    while True:
        try:
            next(run)
        except StopIteration as stop:
            return stop.value
