"""What only some need is an extra: nothing else asks for it, and a sentence names it where it is missing."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jensen as jn
from jensen._base.errors import MissingExtraError
from jensen._base.extras import EXTRAS, needed
from jensen._cli.data_file import read_data
from jensen._cli.outputs import Outputs
from jensen._report import plots

FIT = """
import sys, numpyro, numpyro.distributions as dist, jensen as jn
fit = jn.fit(lambda: numpyro.sample("x", dist.Normal(0, 1)), {}, "laplace")
fit.check(), fit.summary(), fit.evidence(), fit.sample(10)
print(*sys.modules)
"""
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(lines):
    return {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines}


@pytest.fixture
def missing(monkeypatch):
    """A process in which no extra is installed."""
    find = importlib.util.find_spec
    gone = {module for modules in EXTRAS.values() for module in modules}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in gone else find(name, *a))


def test_the_project_declares_the_extras_and_requires_none_of_them():
    required = distributions(PROJECT["dependencies"])
    for name, modules in EXTRAS.items():
        assert distributions(PROJECT["optional-dependencies"][name]) == set(modules)
        assert not required & set(modules)


def test_a_fit_and_its_answers_import_none_of_them():
    done = subprocess.run([sys.executable, "-c", FIT], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"numpyro", "pandas"} <= imported
    assert not imported & set(EXTRAS["plots"])  # pandas itself imports pyarrow where it is installed


@pytest.mark.parametrize("draw", [plots.marginals, plots.pareto, plots.bound_trace, plots.save, jn.Fit.report])
def test_plots_name_their_extra(missing, schools, tmp_path, draw):
    rest = (tmp_path / "out",) if draw in (plots.save, jn.Fit.report) else ()
    with pytest.raises(MissingExtraError, match=r"pip install 'jensen\[plots\]'"):
        draw(schools, *rest)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["plots", "report"])
def test_the_command_line_says_so_before_it_computes(missing, tmp_path, flag):
    with pytest.raises(ImportError, match="matplotlib, which is not installed"):
        Outputs(**{flag: tmp_path / "out"}).check({})


def test_parquet_names_its_extra(missing, tmp_path):
    (tmp_path / "rows.parquet").touch()
    with pytest.raises(MissingExtraError, match=r"pip install 'jensen\[parquet\]'"):
        read_data(tmp_path / "rows.parquet")


def test_what_is_installed_is_imported():
    assert needed("matplotlib.pyplot") is sys.modules["matplotlib.pyplot"]
