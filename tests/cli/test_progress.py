"""What a fit shows while it runs."""

import io
import sys

import pytest

from jensen._core import Progress
from jensen._fit.progress import reporter

STEPS = [
    (Progress("climbing", 5, -12.5), 0.5),
    (Progress("full rank", 0, -8.25, note="rolled back"), 0.75),
    (Progress("full rank", 1, -7.125), 2.0),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def shown(monkeypatch, stream, progress):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with reporter(progress, "auto") as report:
        for item, seconds in STEPS:
            report(item, seconds)
    return stream.getvalue()


def test_one_line_for_each_phase_where_there_is_no_terminal(monkeypatch):
    lines = shown(monkeypatch, io.StringIO(), True).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "climbing step 5 log joint -12.500 nats 0.5 s",
        "full rank step 1 bound -7.125 nats 1.5 s",
    ]


def test_a_terminal_shows_the_current_phase_and_keeps_the_finished_ones(monkeypatch):
    text = shown(monkeypatch, Terminal(), None)
    assert "\x1b[" in text
    assert "climbing" in text
    assert "-7.125" in text
    assert "nats" in text


@pytest.mark.parametrize(("stream", "progress"), [(io.StringIO(), None), (Terminal(), False)])
def test_silent(monkeypatch, stream, progress):
    assert shown(monkeypatch, stream, progress) == ""


def test_a_function_gets_every_step(monkeypatch):
    seen = []
    assert shown(monkeypatch, Terminal(), seen.append) == ""
    assert seen == [item for item, _ in STEPS]
