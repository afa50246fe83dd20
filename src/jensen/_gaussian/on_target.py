"""Reports and outcomes that say which target their q belongs to, for fits in other coordinates than the model's own."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeVar

from jensen._core import Outcome, Progress, relayed

T = TypeVar("T")


def on_target(target: Any, run: Generator[Progress, None, T]) -> Generator[Progress, None, T]:
    """The same run; where it is interrupted, the outcome knows its target."""

    def known(item: Progress) -> Progress:
        return replace(item, q=None if item.q is None else lambda q=item.q: Outcome(q, False, "", target=target))

    return (yield from relayed(run, known))
