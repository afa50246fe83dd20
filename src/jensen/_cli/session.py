"""What every command shares: where text goes, how errors are said, and which exit status they leave."""

import contextlib
import errno
import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.text import Text

from jensen._base.caution import quiet
from jensen._base.errors import JensenError
from jensen._cli import exit_codes
from jensen._cli.signals import terminable
from jensen._cli.streams import Heedless, Lost, console, diverted, silence
from jensen._program.user_code import user_frame


@dataclass
class Session:
    """One run of a command.

    Results go to `out` (stdout), everything else to `err` (stderr). With `as_json`, stdout carries exactly one JSON
    object, also when the command fails. `kept` says that files hold the result, and `lost` why it could not be printed.
    """

    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    kept: bool = False
    lost: OSError | None = None
    out: Console = field(default_factory=lambda: console(sys.stdout, Lost))
    err: Console = field(default_factory=lambda: console(sys.stderr, Heedless))
    _sink: Any = None

    @property
    def silent(self) -> bool:
        """Whether progress and notes are left out."""
        return self.quiet or self.as_json

    def note(self, text: str) -> None:
        """Something the user may want to know, on stderr."""
        if not self.silent:
            self.err.print(Text(f"note: {text}", style="dim"))

    def show(self, *renderables: Any, **options: Any) -> None:
        """Part of the result, for people."""
        if not self.as_json:
            self._try(lambda: self.out.print(*renderables, **options))

    def emit(self, record: dict[str, Any]) -> None:
        """The result, for programs."""
        if self.as_json:
            sink: Any = self._sink or self.out.file
            whole = (sink.encoding or "").lower().replace("-", "") == "utf8"
            text = json.dumps(plain(record), indent=2, allow_nan=False, ensure_ascii=not whole)
            self._try(lambda: print(text, file=sink, flush=True))

    def _try(self, printing: Callable[[], Any]) -> None:
        """What cannot be printed is lost, and the work goes on."""
        if self.lost is None:
            try:
                printing()
            except OSError as error:
                self.lost = error

    def status(self, status: int) -> int:
        """The exit status, given that of the work: a result that was neither printed nor kept is none.

        A reader that closed its pipe has had enough: that is no failure where files hold the result.
        """
        sink: Any = self._sink or self.out.file
        self._try(sink.flush)
        if self.lost is None:
            return status
        silence(sink)
        closed = self.lost.errno == errno.EPIPE
        if not closed:
            self.error(f"The result could not be printed: {self.lost.strerror or self.lost}.", kind="OSError")
        return status if closed and self.kept else max(status, exit_codes.FAILED)

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
        """Turn every exception into a message and an exit status; with `as_json`, keep stdout to the result."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(terminable())
            stack.enter_context(quiet())
            if self.as_json:
                self._sink = stack.enter_context(diverted(self.out.file))
            stack.enter_context(self._guarded())
            yield

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            what = "Interrupted before there was a result; nothing was written."
            what = "Interrupted; the fit that was found is kept." if self.kept else what
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
