"""Latents site by site: what may be renumbered without leaving the unconstrained space."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from jensen._model import build
from jensen._model.by_site import by_site, joined
from jensen._modes.relabelling import labellings_of


def alike():
    with numpyro.plate("states", 3):
        numpyro.sample("scale", dist.Gamma(2.0, 1.0))
        numpyro.sample("place", dist.Normal(0.0, 1.0))


def bounded():
    numpyro.sample("x", dist.Uniform(0.0, jnp.array([1.0, 1.0, 2.0])).to_event(1))


def shares():
    numpyro.sample("w", dist.Dirichlet(jnp.ones(3)))


@pytest.mark.parametrize(
    ("program", "raw", "classes"),
    [
        pytest.param(alike, True, (0, 1, 2), id="one map for all elements"),
        pytest.param(bounded, False, (0, 1), id="bounds of their own"),
        pytest.param(shares, False, (0, 1, 2), id="elements mapped together"),
    ],
)
def test_arrays_of_latents_go_there_and_back_and_show_the_same_renumberings(program, raw, classes):
    target = build(program, {}, "double")
    points = np.random.default_rng(0).normal(size=(8, target.dim))
    values = by_site(target, points)
    back, log_det = joined(target, values)
    np.testing.assert_allclose(back, points, atol=1e-9)
    assert (not log_det.any()) == raw
    assert {labelling.classes for labelling in labellings_of(target, points)} == {(classes,)}
