"""Data that rule out all values near zero: climbs begin where the prior says that the latents may be."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions.transforms import AffineTransform

import jensen as jn

Y = -40.0 + np.random.default_rng(0).gamma(4.0, 1.0, 30)


def threshold(y):
    """y - start ~ Gamma(4, 1), whose density ends smoothly at 0: the start lies below all of y, far below zero."""
    start = numpyro.sample("start", dist.Normal(0.0, 50.0))
    numpyro.sample("y", dist.TransformedDistribution(dist.Gamma(4.0, 1.0), AffineTransform(start, 1.0)), obs=y)


def test_a_threshold_far_from_zero():
    fit = jn.fit(threshold, {"y": Y}, progress=False)
    grid = np.linspace(-60.0, Y.min(), 200_002)[1:-1]
    logs = sum(3.0 * np.log(y - grid) - (y - grid) for y in Y) - 0.5 * (grid / 50.0) ** 2
    weights = np.exp(logs - logs.max())
    mean = weights @ grid / weights.sum()
    sd = np.sqrt(weights @ (grid - mean) ** 2 / weights.sum())
    draws = fit.sample(20_000)["start"]
    assert fit.check().verdict == "trusted"
    assert draws.mean() == pytest.approx(mean, abs=0.1 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.1)


def test_an_edge_far_from_zero_is_named():
    def model(y):
        last = numpyro.sample("last", dist.Pareto(10.0, 0.5))
        numpyro.sample("y", dist.Uniform(0.0, last), obs=y)

    with pytest.raises(jn.ModelError, match=r"hard edge.*'y' is zero.*last = 41\.7"):
        jn.fit(model, {"y": np.array([3.1, 17.2, 9.9, 25.3, 41.7])}, progress=False)


def test_what_no_draw_allows_is_refused_by_site():
    def model(y):
        at = numpyro.sample("at", dist.ImproperUniform(dist.constraints.positive, (), event_shape=()))
        numpyro.factor("never", jnp.where(at > 0.0, -jnp.inf, 0.0))
        numpyro.sample("y", dist.Normal(at, 1.0), obs=y)

    with pytest.raises(jn.ModelError, match=r"at any of the starts tried.*'never'"):
        jn.fit(model, {"y": Y}, "laplace", progress=False)
