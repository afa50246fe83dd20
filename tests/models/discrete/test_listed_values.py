"""Discrete latents whose support has no bounds, and whose distribution lists its values."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy import stats

import jensen as jn

VALUES, SHARES = np.array([1, 3, 5]), np.array([0.2, 0.3, 0.5])


class Odd(dist.Distribution):
    """1, 3 or 5; only `enumerate_support` says so."""

    support = constraints.nonnegative_integer
    has_enumerate_support = True

    def sample(self, key, sample_shape=()):
        return 1 + 2 * jax.random.categorical(key, jnp.log(SHARES), shape=sample_shape)

    def log_prob(self, value):
        return jnp.select([value == v for v in VALUES], list(jnp.log(SHARES)), -jnp.inf)

    def enumerate_support(self, expand=True):
        return jnp.asarray(VALUES)


def model(y):
    k = numpyro.sample("k", Odd())
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    numpyro.sample("y", dist.Normal(mu + k, 1), obs=y)


def test_evidence_and_probabilities_are_those_of_the_list():
    """p(y) = Σ_k π_k N(y | k, 2² + 1²)."""
    terms = SHARES * stats.norm.pdf(2.5, VALUES, np.sqrt(5.0))
    fit = jn.fit(model, {"y": 2.5}, "laplace", progress=False)
    assert [site.values.tolist() for site in fit.structure.summed] == [[1, 3, 5]]
    assert fit.evidence().log_evidence == pytest.approx(np.log(terms.sum()), abs=0.01)
    drawn = fit.sample(20_000)["k"]
    np.testing.assert_allclose([(drawn == v).mean() for v in VALUES], terms / terms.sum(), atol=0.02)
