"""A plan in data: the object that says what a method will do is the one that does it."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from jensen._core.algorithm import Progress


@dataclass(frozen=True)
class Step:
    """One thing that a method does in its turn.

    Attributes:
        name: a few words.
        says: the sentences in which a plan shows it; none where there is nothing to tell of this model.
        take: does it to the work at hand, and tells whether no later step is needed.
        parts: the steps that it takes itself.
    """

    name: str
    says: Callable[[], tuple[str, ...]]
    take: Callable[[Any], Generator[Progress, None, bool]]
    parts: tuple["Step", ...] = ()


def walk(steps: Iterable[Step], work: Any) -> Generator[Progress, None, None]:
    """Take one step after another, until one is the last."""
    for step in steps:
        if (yield from step.take(work)):
            return


def sentences(steps: Iterable[Step]) -> tuple[str, ...]:
    """What a plan says of the steps and of their parts, in order."""
    return tuple(said for step in steps for said in (*step.says(), *sentences(step.parts)))
