"""Interchangeable states: found where renumbering leaves the log joint as it is, and only there."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import jensen as jn
from jensen.algorithms.relabel import labellings_of
from jensen.models import build

RNG = np.random.default_rng(3)
Y = np.concatenate([RNG.normal(-4, 1, 25), RNG.normal(0, 0.5, 20), RNG.normal(5, 1, 30)])


def mixture(y):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([3]).to_event(1))
    numpyro.sample("other", dist.Normal(jnp.arange(3.0), 1.0).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weights))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def summed_by_hand(y):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([3]).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(mu, 1.0)), obs=y)


def ordered_prior(y):
    mu = numpyro.sample("mu", dist.Normal(jnp.array([-3.0, 0.0, 3.0]), 5).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(jnp.ones(3) / 3))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def markov_from_state_zero(y):
    move = numpyro.sample("move", dist.Dirichlet(jnp.ones((3, 3))).to_event(1))
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([3]).to_event(1))

    def step(z, value):
        z = numpyro.sample("z", dist.Categorical(move[z]))
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=value)
        return z, None

    scan(step, 0, y)


CASES = {
    "mixture": (mixture, {("weights", 0), ("mu", 0)}, ((0, 1, 2),)),
    "summed by hand": (summed_by_hand, {("weights", 0), ("mu", 0)}, ((0, 1, 2),)),
    "ordered prior": (ordered_prior, None, None),
    "chain from state 0": (markov_from_state_zero, {("move", 0), ("move", 1), ("mu", 0)}, ((1, 2),)),
}


@pytest.mark.parametrize("name", CASES)
def test_interchangeable_states(name):
    model, axes, classes = CASES[name]
    target = build(model, {"y": Y[::6]}, "double")
    found = labellings_of(target, RNG.normal(size=(8, target.dim)))
    assert [(set(one.axes), one.classes) for one in found] == ([] if axes is None else [(axes, classes)])


def test_the_verdict_names_the_labellings_and_trusts_one():
    fit = jn.fit(mixture, {"y": Y[::2]})
    report = fit.check()
    assert report.verdict == "trusted", report
    assert "6 equivalent labellings" in report.reasons[0]
    assert fit.outcome.certificate["share_elsewhere"] < 1e-6
    assert "labellings" not in str(jn.fit(ordered_prior, {"y": Y[::2]}).check())
