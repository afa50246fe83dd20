"""What a fit shows while it runs: the phase, its step, the bound and the time."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jensen._core import Progress
from jensen._core.algorithm import SEARCHING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

Report = Callable[[Progress, float], None]


@contextlib.contextmanager
def reporter(progress: bool | Callable[[Progress], None] | None, name: str) -> Iterator[Report]:
    """A function to call with every `Progress`.

    It is silent, the user's own, or writes to stderr: in a terminal a live line and one line for each phase that is
    done; elsewhere (`progress=True`) the lines only.
    """
    if callable(progress):
        user = progress
        yield lambda item, seconds: user(item)
        return
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if progress is False or sys.stderr is None or (progress is None and not terminal):
        yield lambda item, seconds: None
        return
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True) if not terminal else Console(stderr=True)
    line = _Line(name, console)
    if not console.is_terminal:
        yield line.show
        line.finish()
        return
    from rich.live import Live

    with Live(get_renderable=line.render, console=console, transient=True, refresh_per_second=10):
        yield line.show
        line.finish()


class _Line:
    """The current phase; a finished one leaves a line behind."""

    def __init__(self, name: str, console: "Console"):
        from rich.spinner import Spinner

        self.name, self.console = name, console
        self.item: Progress | None = None
        self.began, self.phase_began, self.count = time.perf_counter(), 0.0, 0
        self.seconds = 0.0
        self.spinner = Spinner("dots", style="cyan")

    def show(self, item: Progress, seconds: float) -> None:
        """Take in one `Progress`."""
        if self.item is not None and item.phase != self.item.phase:
            self.finish()
            self.phase_began, self.count = self.seconds, 0
        self.item, self.seconds = item, seconds
        self.count += 1

    def finish(self) -> None:
        """Leave a line for the phase that is done."""
        if self.item is None:
            return
        with contextlib.suppress(OSError):  # a full disk or a closed pipe must not end the fit
            self.console.print(self.text("  ", self.seconds - self.phase_began, done=True))

    def render(self) -> "RenderableType":
        """The live line; called by rich ten times a second, so that the clock runs while a program compiles."""
        elapsed = time.perf_counter() - self.began
        self.spinner.update(text=self.text("", elapsed))
        return self.spinner

    def text(self, start: str, seconds: float, done: bool = False) -> "Text":
        """`full rank  step 12   bound -31.628 nats   0.9 s`."""
        from rich.text import Text

        if self.item is None:
            return Text.assemble((self.name, "bold"), f"  analysing and compiling   {seconds:5.1f} s")
        item = self.item
        measure = "log joint" if item.phase in SEARCHING else "bound"
        parts: list[Any] = [start, (f"{item.phase:<20}", "cyan" if not done else "dim cyan")]
        number = f"{item.bound:>14,.3f}"
        shown = [f" {measure:>9} ", (number, "green"), " nats"] if item.bound == item.bound else []  # chains have none
        parts += [f" step {item.step:<5}", *shown, f" {seconds:7.1f} s"]
        if item.note:
            parts.append(f"  {item.note}")
        return Text.assemble(*parts, style="dim" if done else "", no_wrap=True)
