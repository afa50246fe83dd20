"""A fit that was found is written whatever becomes of its display, and never over what it came from."""

import errno
import io
import json
import os
import pkgutil
import signal
import subprocess
import sys

import pytest

import jensen as jn
from jensen._cli import outputs as written
from jensen._cli.session import Session
from jensen._cli.streams import Heedless, Lost, console
from tests.cli.conftest import LINE

FIT = ("fit", "line.py", "-d", "data.csv", "-m", "laplace", "-q")


def command(folder, *arguments, python=(), environment=None, **streams):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, *python, "-m", "jensen", *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )


@pytest.mark.parametrize("kind", ["text", pytest.param("json", marks=pytest.mark.slow)])
def test_a_pipe_that_nobody_reads(folder, kind):
    read, write = os.pipe()
    os.close(read)
    done = command(folder, *FIT, "-o", "f.jn", *(["--json"] if kind == "json" else []), stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert jn.load(folder / "f.jn").check().verdict == "usable"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_as_stdout(folder):
    with open("/dev/full", "w") as full:
        done = command(folder, *FIT, "-o", "f.jn", stdout=full)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: The result could not be printed: No space left on device.")
    assert jn.load(folder / "f.jn").check().verdict == "usable"


@pytest.mark.slow
def test_an_old_terminal_and_no_docstrings(folder):
    """ASCII, twenty columns, the C locale, `python -OO`: characters are replaced, nothing rests on docstrings."""
    old = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "20"}
    done = command(folder, *FIT, "-o", "f.jn", python=["-OO"], environment=old)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Verdict" in done.stdout
    assert b"mean" in done.stdout  # and not only the names of what has one
    assert done.stdout.isascii()
    assert jn.load(folder / "f.jn").check().verdict == "usable"


LOUD = 'print("loud")\nimport os\nos.system("echo louder")\n' + LINE


def test_a_model_that_prints_under_json(jensen, folder):
    (folder / "line.py").write_text(LOUD.replace("os.system", "str"))
    done = jensen(*FIT, "--json")
    assert json.loads(done.stdout)["verdict"] == "usable"
    assert done.stderr == "loud\n"


@pytest.mark.slow
def test_a_model_whose_children_print_under_json(folder):
    (folder / "line.py").write_text(LOUD)
    done = command(folder, *FIT, "--json", environment={"PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["verdict"] == "usable"
    assert done.stdout.isascii()
    assert {b"loud", b"louder"} <= set(done.stderr.split())


MOMENTS = {
    "check": ("jensen.Fit.check", signal.SIGINT, 9),
    "SIGTERM in the evidence": ("jensen.Fit.evidence", signal.SIGTERM, 1),
    "while it is saved": ("jensen._fit.archive.write", signal.SIGINT, 2),
    "plots": ("jensen._report.plots.save", signal.SIGINT, 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interruption_after_the_fit_keeps_it(jensen, folder, monkeypatch, moment):
    name, number, times = MOMENTS[moment]
    real, sent = pkgutil.resolve_name(name), []

    def stopped(*arguments, **options):
        if len(sent) < times:
            sent.append(1)
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(name, stopped)
            done = jensen(*FIT, "-o", "f.jn", "--plots", "p", "--json")
    finally:
        signal.signal(signal.SIGINT, before)
    record = json.loads(done.stdout)
    assert (done.exit_code, record["exit_status"]) == (130, 130)
    assert record["files"] == {"fit": "f.jn"}
    assert record["problems"][0].startswith("Interrupted")
    assert "left out" in done.stderr
    assert not (folder / "p").exists()
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
    fit = jn.load(folder / "f.jn")
    assert fit.method == "laplace"
    if moment == "plots":
        assert record["verdict"] == fit.check().verdict == "usable"
    elif moment == "check":
        assert record["verdict"] is None
        with pytest.raises(jn.UndefinedError, match="attach"):
            fit.check()


def test_an_interruption_while_the_bound_is_measured_keeps_the_fit(monkeypatch):
    import numpyro
    import numpyro.distributions as dist

    from jensen._fit.answers import GaussianAnswer

    def model(y):
        numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal(0, 10)), 1), obs=y)

    def interrupted(self, seed):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(GaussianAnswer, "elbo", interrupted)
        fit = jn.fit(model, {"y": [1.0, 2.0]}, "laplace", progress=False)
    assert "Interrupted before its bound was measured" in fit.status
    assert fit.elbo.value != fit.elbo.value
    assert fit.check().verdict == "trusted"


SAME = {
    "the data": ["-o", "./data.csv"],
    "a link to the data": ["-o", "link.csv"],
    "a hard link to the data": ["--report", "hard.csv"],
    "the model": ["--arviz", "line.py"],
    "one file twice": ["-o", "x", "--report", "./x"],
    "a dangling link": ["-o", "later", "--arviz", "dangling"],
    "a plot": ["-o", "p/pairs.png", "--plots", "p"],
    "a plot that is the data": ["--plots", "q"],
}


@pytest.mark.parametrize("what", SAME)
def test_outputs_that_are_inputs_or_each_other(jensen, folder, what):
    (folder / "link.csv").symlink_to("data.csv")
    (folder / "dangling").symlink_to("later")
    os.link(folder / "data.csv", folder / "hard.csv")
    for name in ("p", "q"):
        (folder / name).mkdir()
    (folder / "q" / "marginals.png").symlink_to("../data.csv")
    before = (folder / "data.csv").read_bytes(), (folder / "line.py").read_bytes()
    done = jensen(*FIT, *SAME[what])
    assert done.exit_code == 2
    assert "are one file" in " ".join(done.stderr.replace("│", " ").split())
    assert before == ((folder / "data.csv").read_bytes(), (folder / "line.py").read_bytes())


def test_the_plots_are_those_that_the_command_line_knows(jensen, folder):
    assert jensen(*FIT, "-o", "f.jn", "--plots", "p").exit_code == 0
    assert {path.stem for path in (folder / "p").iterdir()} == set(written.PLOTS)
    same = jensen("check", "f.jn", "--report", "f.jn")
    assert same.exit_code == 2


def test_each_file_is_written_though_others_fail(jensen, folder, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("jensen._report.plots.save", fails)
    monkeypatch.setattr("jensen.Fit.to_arviz", fails)
    monkeypatch.setattr("jensen._report.plots.images", lambda fit: {})
    done = jensen(*FIT, "-o", "f.jn", "--report", "f.html", "--plots", "p", "--arviz", "f.nc", "--draws", "5")
    assert done.exit_code == 1
    assert done.stderr.count("RuntimeError: no such luck") == 2
    assert "Verdict" in done.stdout
    assert {"f.jn", "f.html", "p", "f.nc"} & set(os.listdir(folder)) == {"f.jn", "f.html"}


class Full(io.StringIO):
    """A stream on a full disk, or one that its reader has closed."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "kept", "status"),
    [(errno.ENOSPC, True, 1), (errno.ENOSPC, False, 1), (errno.EPIPE, True, 0), (errno.EPIPE, False, 1)],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_results_that_cannot_be_printed(number, kept, status, as_json):
    session = Session(as_json, out=console(Full(number), Lost), err=console(io.StringIO(), Heedless), kept=kept)
    session.show("a verdict")
    session.emit({"verdict": "trusted"})
    assert session.status(0) == status
    assert ("could not be printed" in session.err.file.getvalue()) == (number == errno.ENOSPC)


def test_streams_that_are_not_there():
    console(None, Heedless).print("nowhere")


def test_sigterm_is_left_as_it_was(jensen):
    before = signal.getsignal(signal.SIGTERM)
    assert jensen("explain", "line.py", "-d", "data.csv").exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is before
