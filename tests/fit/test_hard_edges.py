"""Posteriors with a hard edge are refused in a sentence, and what the sentence says to do gives the answer."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions.transforms import AffineTransform

import jensen as jn

Y = np.random.default_rng(0).uniform(0, 3, 20)


def observed(make):
    def model(y):
        theta = numpyro.sample("theta", dist.Gamma(2.0, 1.0))
        numpyro.sample("y", make(theta), obs=y)

    return model


def cut_in_two(y):
    mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
    numpyro.factor("order", jnp.where(mu[0] < mu[1], 0.0, -jnp.inf))
    numpyro.sample("y", dist.Normal(mu.sum(), 1), obs=y)


def shifted(start):
    return dist.TransformedDistribution(dist.Exponential(1.0), AffineTransform(start, 1.0))


EDGES = {
    "uniform": observed(lambda theta: dist.Uniform(0, theta)),
    "truncated": observed(lambda theta: dist.TruncatedNormal(0.0, 3.0, high=theta)),
    "shifted": observed(
        lambda theta: dist.TransformedDistribution(dist.Exponential(1.0), AffineTransform(theta - 9.0, 1.0))
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_edge_is_named(name):
    with pytest.raises(jn.ModelError, match=r"hard edge.*'y' is zero.*theta = "):
        jn.fit(EDGES[name], {"y": Y}, "laplace", progress=False)
    with pytest.raises(jn.ModelError, match="has a density depends on the latent 'theta'"):
        jn.fit(EDGES[name], {"y": Y}, "cavi", progress=False)
    with pytest.raises(jn.ModelError, match="hard edge"):
        jn.fit(EDGES[name], {"y": Y}, progress=False)


def test_an_edge_through_the_bulk():
    with pytest.raises(jn.ModelError, match=r"through the bulk.*'order' is zero"):
        jn.fit(cut_in_two, {"y": Y}, progress=False)


def test_the_remedy_gives_the_answer():
    """y ~ Uniform(0, theta), theta ~ Gamma(2, 1): density theta^(1-n) exp(-theta) beyond max y."""

    def model(y):
        distance = numpyro.sample("distance", dist.ImproperUniform(dist.constraints.positive, (), event_shape=()))
        theta = numpyro.deterministic("theta", y.max() + distance)
        numpyro.factor("prior", dist.Gamma(2.0, 1.0).log_prob(theta))
        numpyro.sample("y", dist.Uniform(0, theta), obs=y)

    fit = jn.fit(model, {"y": Y}, progress=False)
    grid = Y.max() + np.linspace(0, 10, 200_001)[1:]
    logs = (1 - len(Y)) * np.log(grid) - grid
    weights = np.exp(logs - logs.max())
    mean = weights @ grid / weights.sum()
    sd = np.sqrt(weights @ (grid - mean) ** 2 / weights.sum())
    draws = fit.sample(20_000)["theta"]
    assert fit.check().verdict != "untrusted"
    assert draws.mean() == pytest.approx(mean, abs=0.1 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize(
    "make",
    [lambda s: dist.LogNormal(s, 1.0), lambda s: dist.InverseGamma(3.0, s), lambda s: dist.Weibull(s, 2.0)],
)
def test_supports_that_stay_are_no_edges(make):
    fit = jn.fit(observed(make), {"y": Y}, "laplace", progress=False)
    assert fit.converged
