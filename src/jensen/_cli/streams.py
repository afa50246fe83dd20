"""Where text goes: a terminal, a pipe that nobody reads, a full disk, an encoding without the characters."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console

NARROWEST = 80
"""Columns that the tables need."""


class Lost(Console):
    """A console that raises what its stream raises (rich would end the process when a pipe is closed)."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise


class Heedless(Lost):
    """A console for messages: where they cannot be shown, nothing can be said about it either."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if that is possible."""
        with contextlib.suppress(OSError):
            super().print(*objects, **options)


def console(stream: Any, kind: type[Console]) -> Console:
    """A console on a stream; what goes to a file or a pipe is 120 columns wide.

    Where there are fewer than `NARROWEST`, lines run over: a table that is made to fit loses its numbers.
    """
    stream = _there(stream)
    if not stream.isatty() and not os.environ.get("COLUMNS"):
        return kind(file=stream, width=120)
    found = kind(file=stream)
    return found if found.width >= NARROWEST else kind(file=stream, width=NARROWEST)


def _there(stream: Any) -> Any:
    """The stream, in which a character that its encoding lacks is replaced; nowhere, where it was closed at start."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return stream


@contextlib.contextmanager
def diverted(stream: Any) -> Iterator[Any]:
    """Whatever is printed goes to stderr, that of programs called from here too; the real stdout is yielded."""
    try:
        number, other = stream.fileno(), sys.stderr.fileno()
        stream.flush()
        real = os.fdopen(os.dup(number), "w", encoding=stream.encoding, errors="replace")
    except (OSError, ValueError, AttributeError):  # no file of the system's: a test's, say
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
        return
    os.dup2(other, number)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield real
    finally:
        os.dup2(real.fileno(), number)
        with contextlib.suppress(OSError):
            real.close()


def silence(stream: Any) -> None:
    """What is still to be written goes nowhere: else Python would try again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
