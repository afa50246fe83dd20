"""Ctrl-C keeps the best approximation found so far, or says that there is none."""

import json
import signal
import subprocess
import sys

import jensen as jn
from jensen._core import Progress

HOOK = """
import contextlib, importlib, sys
from jensen._cli import main

def reporter(wanted, name):
    def report(item, seconds):
        if item.phase == {phase!r}:
            raise KeyboardInterrupt
    yield report

importlib.import_module("jensen._fit.fit").reporter = contextlib.contextmanager(reporter)
sys.argv = ["jensen", *{arguments!r}]
main()
"""


def interrupted(folder, phase, *arguments):
    code = HOOK.format(phase=phase, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_with_an_approximation_everything_is_written(folder):
    done = interrupted(folder, "full rank", "fit", "line.py", "-d", "data.csv", "--out", "f.jn", "--json")
    record = json.loads(done.stdout)
    assert record["interrupted"] is True
    assert record["converged"] is False
    assert "Interrupted by the user in phase" in record["status"]
    assert done.returncode == record["exit_status"]
    assert (record["verdict"] == "untrusted") == (done.returncode == 3)
    assert "best approximation found so far" in done.stderr
    assert jn.load(folder / "f.jn").status == record["status"]


def test_without_one_nothing_is_written(folder):
    done = interrupted(folder, "climbing", "fit", "line.py", "-d", "data.csv", "--out", "f.jn")
    assert done.returncode == 130
    assert "Interrupted before there was a result" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "f.jn").exists()


def test_a_real_signal(folder):
    """The signal comes while the fit runs, as from a terminal: phases are watched on stderr, then SIGINT is sent."""
    command = [sys.executable, "-u", "-m", "jensen", "fit", "funnel.py", "-m", "advi", "-O", "engine=stochastic"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "climbing" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert "Traceback" not in err
    assert process.returncode in (0, 3, 130)
    assert ("Verdict" in out) == (process.returncode != 130)


def test_progress_functions_may_interrupt():
    def model(y):
        import numpyro
        import numpyro.distributions as dist

        mu = numpyro.sample("mu", dist.Normal(0, 10))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    def stop(item: Progress):
        if item.q is not None:
            raise KeyboardInterrupt

    fit = jn.fit(model, {"y": [1.0, 2.0]}, progress=stop)
    assert "Interrupted" in fit.status
    assert not fit.converged
