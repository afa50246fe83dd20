"""Interchangeable states: found where renumbering leaves the log joint as it is, and only there."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import jensen as jn
from jensen._model import build
from jensen._model.by_site import by_site
from jensen._modes.relabelling import find_labellings, find_rotations, labellings_of, on_supports
from jensen._verdict.importance import weigh
from jensen._verdict.labellings import View, counted

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


@pytest.mark.slow
def test_the_verdict_names_the_labellings_and_trusts_one():
    fit = jn.fit(mixture, {"y": Y[::2]})
    report = fit.check()
    assert report.verdict == "trusted", report
    assert "6 equivalent labellings" in report.reasons[0]
    assert fit.outcome.certificate["share_elsewhere"] < 1e-6
    assert "labellings" not in str(jn.fit(ordered_prior, {"y": Y[::2]}).check())


def _collapsed_factors(loadings, noise):
    """log p(y, w, tau) of a factor model whose factors are integrated out, and of one whose axes are told apart."""
    y = RNG.normal(size=(30, 4))

    def log_joint(values, scale=1.0):
        w, tau = values["w"], values["tau"]
        covariance = w @ w.transpose(0, 2, 1) + np.einsum("sd,de->sde", 1 / tau, np.eye(4))
        squares = np.trace(np.linalg.solve(covariance, np.broadcast_to(y.T @ y, covariance.shape)), axis1=1, axis2=2)
        prior = -0.5 * (w**2 / scale**2).sum((1, 2)) - tau.sum(1)
        return -15 * np.linalg.slogdet(covariance)[1] - 0.5 * squares + prior

    return log_joint, {"w": loadings, "tau": noise}


def test_rotations_are_told_from_renumberings():
    """Loadings under one prior may be rotated; a mixture's means may only be renumbered, loadings of two scales
    neither."""
    loadings, noise = RNG.normal(size=(16, 4, 2)), RNG.gamma(5.0, 0.2, size=(16, 4))
    log_joint, values = _collapsed_factors(loadings, noise)
    found = find_labellings(log_joint, values)
    assert [one.axes for one in found] == [(("w", 1),)]
    assert find_rotations(log_joint, values, found) == found
    target = build(mixture, {"y": Y}, "double")
    points = RNG.normal(size=(16, target.dim))
    own = labellings_of(target, points)
    assert own
    assert find_rotations(on_supports(target), by_site(target, points), own) == ()

    def told_apart(some):
        return log_joint(some, np.array([1.0, 2.0]))

    assert find_labellings(told_apart, values) == ()


def test_a_verdict_names_a_rotation_that_q_is_one_of():
    """q near one rotation is told so, and evidence has no upper limit; a spherical q describes them all."""
    loadings, noise = RNG.normal(size=(16, 4, 2)), RNG.gamma(5.0, 0.2, size=(16, 4))
    log_joint, _ = _collapsed_factors(loadings, noise)

    def told(sd, centre):
        w = centre + sd * RNG.normal(size=(64, 4, 2))
        values = {"w": w, "tau": RNG.gamma(5.0, 0.2, size=(64, 4))}

        def log_q(some):
            own = -0.5 * (((some["w"] - centre) / sd) ** 2).sum((1, 2))
            return own, own

        own = log_q(values)[0]
        pool = weigh(w.reshape(64, -1), log_joint(values), own, own)
        return counted(pool, View(values, log_joint, log_q))

    narrow = told(0.1, loadings[0])
    assert narrow.rotated == (("w",),)
    assert "Rotating 'w'" in narrow.turning
    assert told(1.0, np.zeros((4, 2))).rotated == ()


def test_discrete_latents_are_renumbered_and_never_mixed():
    def log_joint(values):
        assert values["z"].dtype.kind == "i"
        return -((values["z"].sum(axis=1) - 3.0) ** 2)

    values = {"z": np.random.default_rng(0).integers(0, 4, (12, 2))}
    found = find_labellings(log_joint, values)
    assert [one.axes for one in found] == [(("z", 0),)]
    assert find_rotations(log_joint, values, found) == ()
