"""A folder with small models and data, and a way to run the command in this process."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jensen._cli.app import app

LINE = """
import numpyro
import numpyro.distributions as dist

def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 5))
    noise = numpyro.sample("noise", dist.HalfNormal(2))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, noise), obs=y)
"""
FUNNEL = """
import numpyro
import numpyro.distributions as dist

def model():
    v = numpyro.sample("v", dist.Normal(0, 3))
    numpyro.sample("x", dist.Normal(0, numpyro.distributions.util.jnp.exp(v / 2)).expand([9]).to_event(1))
"""


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 20)
    return {"x": x, "y": 1.5 * x + 0.3 * rng.normal(size=20)}


@pytest.fixture
def folder(tmp_path, table):
    """`line.py` with `data.json`, `.csv`, `.npz` and `.parquet`; `funnel.py`."""
    (tmp_path / "line.py").write_text(LINE)
    (tmp_path / "funnel.py").write_text(FUNNEL)
    (tmp_path / "data.json").write_text(json.dumps({k: v.tolist() for k, v in table.items()}))
    frame = pd.DataFrame(table)
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.to_parquet(tmp_path / "data.parquet")
    np.savez(tmp_path / "data.npz", **table)
    return tmp_path


@pytest.fixture
def jensen(folder, monkeypatch):
    """Run `jensen ARGUMENTS` in the folder; the result has `exit_code`, `stdout` and `stderr`."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run
