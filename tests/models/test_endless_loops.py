"""Densities with loops of unknown length: an adaptive solver that would go on for ever far from the posterior."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.experimental.ode import odeint

from jensen._model import build
from tests.zoo import MODELS

TIMES = np.linspace(0.5, 4.0, 6)


def decay(y):
    rate = numpyro.sample("rate", dist.LogNormal(0.0, 1.0))
    path = odeint(lambda c, t, k: -k * c, jnp.ones(()), jnp.concatenate([jnp.zeros(1), TIMES]), rate)
    numpyro.sample("y", dist.Normal(path[1:], 0.1).to_event(1), obs=y)


def test_climbs_keep_close_where_a_loop_may_never_end():
    assert build(decay, {"y": np.exp(-0.7 * TIMES)}, "double").reach == 1.0


@pytest.mark.parametrize("name", ["eight_schools", "scan_chain"])
def test_and_go_anywhere_elsewhere(name):
    assert build(MODELS[name].model, MODELS[name].data, "double").reach == np.inf
