"""Three small fits: eight schools (usable), a line (one scalar trusted), and a hostile name."""

import matplotlib as mpl
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen import datasets
from jensen._cli.model_file import load_model

mpl.use("Agg")


@pytest.fixture(scope="session")
def schools():
    model = load_model(datasets.MODELS / "eight_schools.py").model
    return jn.fit(model, datasets.eight_schools(), jn.auto(integrate=False))


@pytest.fixture(scope="session")
def hostile():
    """One latent scalar, whose name is markup."""

    def model(y):
        mu = numpyro.sample("<script>alert(1)</script>", dist.Normal(0, 10))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    return jn.fit(model, {"y": [1.0, 2.0, 3.0]}, "laplace")
