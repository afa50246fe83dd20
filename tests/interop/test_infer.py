"""Factors of new rows given the globals of a fit by coordinate ascent."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import jensen as jn

RNG = np.random.default_rng(2)
X = RNG.normal(size=60) + np.repeat([-2.0, 2.0], 30)
NEW = np.array([-2.5, 0.1, 1.9])


def mixture(x, K):
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(K)))
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0.0, 3.0))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.Normal(mu[c], 1.0), obs=x)


def responsibilities(fit, x):
    """softmax(E[log w_k] + E[log N(x; mu_k, 1)])."""
    q = fit.approximation
    alpha = np.asarray(q.factor("weights").natural["log"]) + 1.0
    mean, variance = np.asarray(q.means()["mu"]), np.asarray(q.variances()["mu"])
    logs = special.digamma(alpha) - special.digamma(alpha.sum())
    logs = logs + stats.norm.logpdf(x[:, None], mean, 1.0) - 0.5 * variance
    return special.softmax(logs, axis=1)


@pytest.fixture(scope="module")
def fit():
    return jn.fit(mixture, {"x": X, "K": 2}, "cavi")


def test_responsibilities_of_new_rows(fit):
    found = fit.infer({"x": NEW})
    assert found.size == 3
    np.testing.assert_allclose(found.probabilities()["c"], responsibilities(fit, NEW), rtol=1e-10)
    np.testing.assert_allclose(found.mean()["c"], responsibilities(fit, NEW)[:, 1], rtol=1e-10)
    drawn = found.sample(4000, seed=1)["c"]
    assert drawn.shape == (4000, 3)
    p = responsibilities(fit, NEW)[:, 1]
    assert np.all(np.abs(drawn.mean(axis=0) - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-12)


def test_own_rows_and_a_single_row(fit):
    own = fit.infer().probabilities()["c"]
    np.testing.assert_allclose(own[:, 1], fit.approximation.means()["c"], atol=1e-5)
    one = fit.infer({"x": NEW[:1]})
    assert one.size == 1
    np.testing.assert_allclose(one.probabilities()["c"], responsibilities(fit, NEW[:1]), rtol=1e-10)


def test_a_fit_of_batches_answers_for_rows():
    rows = jn.Batches([{"x": X[::2]}, {"x": X[1::2]}], shared={"K": 2})
    fit = jn.fit(mixture, rows, "svi")
    np.testing.assert_allclose(fit.infer({"x": NEW}).probabilities()["c"], responsibilities(fit, NEW), rtol=1e-10)
    with pytest.raises(jn.JensenError, match="not held"):
        fit.infer()


def test_bad_rows(fit):
    with pytest.raises(jn.JensenError, match="lacks 'x'"):
        fit.infer({})
    with pytest.raises(jn.JensenError, match="no argument 'y'"):
        fit.infer({"y": NEW})
    with pytest.raises(jn.JensenError, match="change the shape of"):
        fit.infer({"x": NEW, "K": 3})
    with pytest.raises(jn.JensenError, match="row 1"):
        fit.infer({"x": np.array([0.0, np.nan, 1.0])})


def test_models_without_latents_of_rows_are_told():
    def normal(x):
        mu = numpyro.sample("mu", dist.Normal(0.0, 3.0))
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    fit = jn.fit(normal, {"x": X}, "cavi")
    with pytest.raises(jn.JensenError, match="No plate"):
        fit.infer({"x": NEW})
