"""A live line that shows the phase, the bound and the time."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from jensen.core import Progress

Report = Callable[[Progress, float], None]


@contextlib.contextmanager
def reporter(progress: bool | Callable[[Progress], None] | None, name: str) -> Iterator[Report]:
    """A function to call with every `Progress`: silent, the user's own, or a line in the terminal."""
    if callable(progress):
        user = progress
        yield lambda item, seconds: user(item)
        return
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield lambda item, seconds: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    with Live(Spinner("dots", text=Text(f"{name}: analysing")), console=Console(stderr=True), transient=True) as live:

        def show(item: Progress, seconds: float) -> None:
            text = Text.assemble(
                (name, "bold"),
                "  ",
                (item.phase, "cyan"),
                f"  step {item.step}",
                "  bound ",
                (f"{item.bound:,.3f}", "green"),
                f" nats  {seconds:.1f} s",
            )
            live.update(Spinner("dots", text=text))

        yield show
