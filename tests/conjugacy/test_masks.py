"""Masks inside and outside of to_event, scalar masks, and scaled likelihoods."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from jensen._conjugate.cavi import CAVI

Y = np.array([0.5, np.nan, 2.0])


def inside(y):
    m = numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(m * jnp.ones(3), 1).mask(~jnp.isnan(y)).to_event(1), obs=y)


def scalar(y):
    m = numpyro.sample("m", dist.Normal(0, 1))
    with handlers.mask(mask=True):
        numpyro.sample("y", dist.Normal(m * jnp.ones(3), 1).mask(True).to_event(1), obs=y)


def scaled(y):
    m = numpyro.sample("m", dist.Normal(0, 1))
    with numpyro.plate("row", 3), handlers.scale(scale=2.5):
        numpyro.sample("y", dist.Normal(m, 1), obs=y)


@pytest.mark.parametrize(
    ("model", "y", "precision", "total"),
    [
        (inside, Y, 3.0, 2.5),
        (scalar, np.nan_to_num(Y), 4.0, 2.5),
        (scaled, np.nan_to_num(Y), 1 + 7.5, 6.25),
    ],
)
def test_posterior_of_a_masked_or_scaled_mean(model, y, precision, total):
    fit = CAVI().fit_conjugate(model, {"y": y})
    assert float(fit.variances()["m"]) == pytest.approx(1 / precision)
    assert float(fit.means()["m"]) == pytest.approx(total / precision)
