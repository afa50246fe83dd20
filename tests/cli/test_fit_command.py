"""`jensen fit`: what it prints and writes, and with which exit status it leaves."""

import json

import numpy as np
import pytest

import jensen as jn


def test_everything_at_once(jensen, folder):
    done = jensen(
        *("fit", "line.py", "--data", "data.json", "--method", "laplace", "--out", "f.jn", "--report", "f.html"),
        *("--plots", "p", "--arviz", "f.nc", "--draws", "50", "--seed", "3"),
    )
    assert done.exit_code == 0, done.stderr
    for text in ("Posterior summary", "slope", "log p(x), estimated", "Verdict:", "Written: f.jn"):
        assert text in done.stdout
    for text in ("climbing", "mode", "log joint", "nats"):
        assert text in done.stderr
    fit = jn.load(folder / "f.jn")
    assert (fit.method, fit.seed) == ("laplace", 3)
    assert sorted(path.name for path in (folder / "p").iterdir()) == [
        "bound_trace.png",
        "marginals.png",
        "pairs.png",
        "pareto.png",
    ]
    assert "</html>" in (folder / "f.html").read_text()
    import xarray as xr

    with xr.open_datatree(folder / "f.nc", engine="h5netcdf") as tree:
        assert dict(tree["posterior"].sizes)["draw"] == 50
        assert "log_likelihood" in tree


@pytest.mark.parametrize("suffix", ["json", "csv", "npz", "parquet"])
def test_formats_and_json_output(jensen, suffix):
    done = jensen("fit", "line.py", "--data", f"data.{suffix}", "--method", "laplace", "--json")
    record = json.loads(done.stdout)
    assert done.stderr == ""
    assert (record["exit_status"], done.exit_code) == (0, 0)
    assert record["verdict"] in ("trusted", "usable")
    assert record["reasons"]
    assert record["method"] == "laplace"
    assert set(record["summary"]) == {"slope", "noise"}
    assert abs(record["summary"]["slope"]["mean"] - 1.5) < 0.5
    assert record["elbo"]["value"] <= record["evidence"]["log_evidence"]["value"] + 0.1
    assert record["timings"]["total"] >= record["timings"]["compile"] > 0
    assert record["files"] == {}
    assert record["interrupted"] is False


def test_untrusted_leaves_3_and_still_writes(jensen, folder):
    done = jensen("fit", "funnel.py", "--method", "laplace", "--out", "f.jn", "--json")
    record = json.loads(done.stdout)
    assert (done.exit_code, record["exit_status"], record["verdict"]) == (3, 3, "untrusted")
    assert record["remedy"]
    assert record["files"] == {"fit": "f.jn"}
    again = jensen("check", "f.jn")
    assert again.exit_code == 3
    assert "Verdict: untrusted" in again.stdout
    assert record["reasons"][0][:20] in again.stdout


def test_options_reach_the_method(jensen):
    done = jensen(
        *("fit", "line.py", "-d", "data.csv", "-m", "advi", "-O", "family=full_rank", "-O", "num-starts=2", "--json")
    )
    record = json.loads(done.stdout)
    assert record["options"]["family"] == "full_rank"
    assert record["options"]["num_starts"] == 2


def test_columns_that_the_model_does_not_take(jensen, folder, table):
    rows = np.column_stack([table["x"], table["y"], np.arange(20)])
    np.savetxt(folder / "wide.csv", rows, delimiter=",", header="x,y,city", comments="")
    done = jensen("fit", "line.py", "--data", "wide.csv", "--method", "laplace")
    assert done.exit_code == 0
    assert "columns that line does not take are ignored: city" in done.stderr
    quiet = jensen("fit", "line.py", "--data", "wide.csv", "--method", "laplace", "--quiet")
    assert quiet.stderr == ""
    assert "Verdict" in quiet.stdout
    np.savez(folder / "wide.npz", x=table["x"], y=table["y"], city=np.arange(20))
    refused = jensen("fit", "line.py", "--data", "wide.npz")
    assert refused.exit_code == 1
    assert "takes no argument 'city'" in refused.stderr


HEAD = "import numpyro\nimport numpyro.distributions as dist\n"
RAISES = HEAD + "def model(x, y=None):\n    w = numpyro.sample('w', dist.Normal(0, 1))\n    broken = x @ y.nothing\n"
DISCRETE = HEAD + "def model(x, y=None):\n    numpyro.sample('k', dist.Poisson(3.0))\n"
FAILURES = {
    "no data": (["line.py"], ["needs 'x'", "hold nothing"]),
    "no model file": (["none.py"], ["model file does not exist", "none.py"]),
    "no data file": (["line.py", "--data", "none.csv"], ["data file does not exist"]),
    "unknown method": (
        ["line.py", "-d", "data.csv", "-m", "lapalce"],
        ["no method 'lapalce'", "Did you mean 'laplace'?"],
    ),
    "unknown option": (
        ["line.py", "-d", "data.csv", "-m", "advi", "-O", "famly=full_rank"],
        ["advi has no option 'famly'", "Did you mean 'family'?"],
    ),
    "wrong value": (
        ["line.py", "-d", "data.csv", "-m", "advi", "-O", "family=full"],
        ["advi has no family 'full'", "full_rank"],
    ),
    "wrong type": (
        ["line.py", "-d", "data.csv", "-O", "num_starts=many"],
        ["auto option 'num_starts' takes a whole number, not 'many'"],
    ),
    "not key=value": (["line.py", "-d", "data.csv", "-O", "fast"], ["'fast' is not an option of the form key=value"]),
    "model raises": (["raises.py", "-d", "data.csv"], ["AttributeError", "raises.py, line 5: broken = x @ y.nothing"]),
    "discrete latent": (["discrete.py", "-d", "data.csv", "--method", "advi"], ["'k' is discrete (Poisson)"]),
    "text column": (["line.py", "-d", "text.csv"], ["'x' has dtype text", "Encode categories"]),
    "missing values": (["line.py", "-d", "gaps.csv"], ["'y' holds 1 missing values", "row 1"]),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_leave_1_and_say_why(jensen, folder, case):
    arguments, wanted = FAILURES[case]
    (folder / "raises.py").write_text(RAISES)
    (folder / "discrete.py").write_text(DISCRETE)
    (folder / "text.csv").write_text("x,y\na,1\nb,2\n")
    (folder / "gaps.csv").write_text("x,y\n1,1\n2,\n")
    done = jensen("fit", *arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    said = " ".join(done.stderr.split())
    assert said.startswith("error: ")
    assert "Traceback" not in said
    for part in wanted:
        assert part in said
    as_json = jensen("fit", *arguments, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["error"]["what"]


def test_debug_shows_the_traceback(jensen):
    done = jensen("fit", "line.py", "--debug")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "needs 'x'" in done.stderr


USAGE = {
    "no model": [],
    "unknown flag": ["line.py", "--fast"],
    "no folder for the fit": ["line.py", "--out", "nowhere/f.jn"],
    "a folder as the fit": ["line.py", "--out", "."],
    "a file as the folder of plots": ["line.py", "--plots", "data.csv"],
    "no draws": ["line.py", "--draws", "0"],
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_leaves_2(jensen, case):
    assert jensen("fit", *USAGE[case]).exit_code == 2


def test_a_file_that_cannot_be_written_does_not_lose_the_rest(jensen, folder, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(jn.Fit, "save", full)
    done = jensen(*("fit", "line.py", "-d", "data.csv", "-m", "laplace", "--out", "f.jn", "--report", "f.html"))
    assert done.exit_code == 1
    assert "Could not write the fit: No space left on device: f.jn" in done.stderr
    assert "Verdict" in done.stdout
    assert (folder / "f.html").exists()


def test_a_budget_ends_the_fit_early(jensen):
    """So small that the first approximation is all there is."""
    done = jensen("fit", "line.py", "--data", "data.json", "--method", "laplace", "--budget", "1e-6", "--json")
    record = json.loads(done.stdout)
    assert record["interrupted"] is True
    assert record["status"].startswith("Stopped by the budget of 1e-06 s")
    refused = jensen("fit", "line.py", "--data", "data.json", "--budget", "-2")
    assert refused.exit_code == 1
    assert "budget must be a finite number above 0" in refused.stderr
