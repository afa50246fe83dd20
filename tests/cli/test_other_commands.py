"""`jensen explain`, `jensen check`, `jensen demo`, and the command as a process of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest

import jensen as jn
from jensen import datasets
from jensen._cli.options import parse_option


def test_explain(jensen):
    done = jensen("explain", "line.py", "--data", "data.csv")
    assert done.exit_code == 0
    for text in ("slope", "HalfNormal", "positive", "row[20]", "slope, noise", 'method="auto" will do this'):
        assert text in done.stdout
    plan = json.loads(jensen("explain", "line.py", "--data", "data.csv", "--json").stdout)
    assert plan["dim"] == 2
    assert [site["site"] for site in plan["sites"]] == ["slope", "noise", "y"]
    assert "begin{align" in jensen("explain", "line.py", "--data", "data.csv", "--latex").stdout
    assert jensen("explain", "line.py").exit_code == 1


def test_check_says_what_fit_said(jensen, folder):
    first = json.loads(jensen("fit", "line.py", "-d", "data.csv", "-m", "laplace", "-o", "f.jn", "--json").stdout)
    again = json.loads(jensen("check", "f.jn", "--json").stdout)
    for key in ("verdict", "reasons", "elbo", "evidence", "check", "summary", "timings"):
        assert again[key] == first[key]
    shown = jensen("check", "f.jn", "--report", "again.html")
    assert shown.exit_code == 0
    assert "what was measured" in shown.stdout
    assert (folder / "again.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [("none.jn", None, "no such file"), ("junk.jn", b"junk", "cannot be read"), ("cut.jn", b"PK\x03\x04", "damaged")],
)
def test_check_of_what_is_not_a_fit(jensen, folder, name, content, wanted):
    if content is not None:
        (folder / name).write_bytes(content)
    done = jensen("check", name)
    assert done.exit_code == 1
    assert wanted in done.stderr
    assert name in done.stderr


def test_version_and_help(jensen):
    assert jensen("--version").stdout.strip() == f"jensen {jn.__version__}"
    assert "Exit status" in jensen("--help").stdout
    assert jensen().exit_code == 2


def test_option_values():
    pairs = ["a=1", "b=0.5", "c=full_rank", "d=None", "e-f=True", "g=x=y", "h= 'q' "]
    read = dict(parse_option(pair) for pair in pairs)
    assert read == {"a": 1, "b": 0.5, "c": "full_rank", "d": None, "e_f": True, "g": "x=y", "h": "q"}


def test_as_a_process(folder):
    command = [sys.executable, "-m", "jensen", "fit", "line.py", "-d", "data.npz", "-m", "laplace", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] in ("trusted", "usable")
    assert done.stderr == ""


def test_import_jensen_stays_light():
    code = (
        "import sys, jensen; heavy = {'typer', 'rich', 'matplotlib', 'arviz_plots', 'arviz_base'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"import jensen loads {done.stderr}"


def test_the_data_add_up():
    rows, cells = datasets.randhie(), datasets.doctor_visits()
    assert {len(column) for column in rows.values()} == {20190}
    assert cells["visits"].sum() == rows["mdvis"].sum()
    assert cells["years"].sum() == 20190
    free = (rows["lncoins"] == 0) & (rows["idp"] == 0)
    assert cells["visits"][cells["plan"] == 0].sum() == rows["mdvis"][free].sum()
    assert [int(cells[name].max()) for name in ("plan", "health", "limited", "ill")] == [5, 3, 1, 4]
    np.testing.assert_array_equal(datasets.eight_schools()["y"][:3], [28, 8, -3])


def test_demo(jensen, folder):
    done = jensen("demo", "--out", "demo")
    assert done.exit_code == 0, done.stderr
    for text in ("Eight schools", "20,190 person-years", "Verdict: ", "plan_rate[0]", "Files", "Now yours"):
        assert text in done.stdout
    for story, data in (("eight_schools", "data.json"), ("doctor_visits", "data.csv")):
        for name in ("model.py", data, "fit.jn", "report.html", "plots/marginals.png"):
            assert (folder / "demo" / story / name).stat().st_size > 100
        assert jn.load(folder / "demo" / story / "fit.jn").check().verdict in ("trusted", "usable")
