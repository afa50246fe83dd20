"""Interruptions: SIGTERM counts as Ctrl-C, and what must not be cut short is not."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does, unless whoever started this process had it ignored."""
    if not _main() or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Interruptions wait until this is done."""
    if not _main():
        yield
        return
    waiting: list[int] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    caught = {n: handler for n, handler in before.items() if callable(handler)}
    for number in caught:
        signal.signal(number, lambda n, frame: waiting.append(n))
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
    if waiting:
        raise KeyboardInterrupt


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
