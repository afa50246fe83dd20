"""What every command shares: where text goes, how errors are said, and which exit status they leave."""

import contextlib
import json
import math
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.text import Text

from jensen._errors import JensenError
from jensen.cli import exit_codes
from jensen.models.user_code import user_frame


@dataclass
class Session:
    """One run of a command.

    Results go to `out` (stdout), everything else to `err` (stderr). With `as_json`, stdout carries exactly one JSON
    object, also when the command fails.
    """

    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    out: Console = field(default_factory=lambda: _console(sys.stdout))
    err: Console = field(default_factory=lambda: _console(sys.stderr))

    @property
    def silent(self) -> bool:
        """Whether progress and notes are left out."""
        return self.quiet or self.as_json

    def note(self, text: str) -> None:
        """Something the user may want to know, on stderr."""
        if not self.silent:
            self.err.print(Text(f"note: {text}", style="dim"))

    def show(self, *renderables: Any) -> None:
        """Part of the result, for people."""
        if not self.as_json:
            self.out.print(*renderables)

    def emit(self, record: dict[str, Any]) -> None:
        """The result, for programs."""
        if self.as_json:
            typer.echo(json.dumps(plain(record), indent=2, allow_nan=False, ensure_ascii=False))

    def working(self, text: str) -> contextlib.AbstractContextManager[Any]:
        """A spinner on stderr while something without steps of its own goes on."""
        if self.silent or not self.err.is_terminal:
            return contextlib.nullcontext()
        return self.err.status(text)

    def error(self, what: str, where: str = "", remedy: str = "", kind: str = "") -> None:
        """Say what failed, where, and what to do about it."""
        self.emit({"error": {"kind": kind, "what": what, "where": where, "remedy": remedy}})
        text = Text.assemble(("error: ", "bold red"), what)
        for part in (where, remedy):
            if part:
                text.append(f"\n       {part}")
        self.err.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turn every exception into a message and an exit status."""
        try:
            yield
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            what = "Interrupted before there was a result; nothing was written."
            self.error(what, kind="Interrupted")
            raise typer.Exit(exit_codes.INTERRUPTED) from None
        except Exception as error:
            if self.debug:
                self.err.print(Text(traceback.format_exc()), soft_wrap=True)
            self._explain(error)
            raise typer.Exit(exit_codes.FAILED) from None

    def _explain(self, error: Exception) -> None:
        kind = type(error).__name__
        if isinstance(error, JensenError):
            self.error(error.what, error.where, error.remedy, kind)
        elif isinstance(error, OSError) and error.filename is not None:
            self.error(f"{error.strerror or kind}: {error.filename}", kind=kind)
        else:
            place = user_frame(error)
            self.error(
                f"{kind}: {error}",
                f"At {place}." if place else "",
                "" if self.debug else "Run again with --debug for the traceback.",
                kind,
            )


def _console(stream: Any) -> Console:
    """A console on a stream; what goes to a file or a pipe is 120 columns wide."""
    width = None if stream.isatty() or os.environ.get("COLUMNS") else 120
    return Console(file=stream, width=width)


def plain(value: Any) -> Any:
    """JSON's own types: arrays as lists, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
