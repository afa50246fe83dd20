"""Parameters without a closed-form M step: maximum likelihood with the latents' exact conditional."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy import optimize, stats

import jensen as jn
from jensen._families.exponential import Categorical

rng = np.random.default_rng(1)
X = np.concatenate([rng.gamma(2.0, 1.0, size=100), rng.gamma(20.0, 0.5, size=100)])


def gammas(x):
    weights = numpyro.param("weights", jnp.array([0.5, 0.5]), constraint=constraints.simplex)
    shape = numpyro.param("shape", jnp.array([1.0, 5.0]), constraint=constraints.positive)
    rate = numpyro.param("rate", jnp.array([1.0, 1.0]), constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.Gamma(shape[c], rate[c]), obs=x)


def log_likelihood(weight, shape, rate):
    first, second = (stats.gamma(a, scale=1 / b).logpdf(X) for a, b in zip(shape, rate, strict=True))
    return np.logaddexp(np.log(weight) + first, np.log1p(-weight) + second).sum()


def test_a_mixture_of_gammas_reaches_the_maximum_of_its_likelihood():
    fit = jn.fit(gammas, {"x": X}, "cavi")

    def minus(p):
        return -log_likelihood(1 / (1 + np.exp(-p[0])), np.exp(p[1:3]), np.exp(p[3:]))

    best = optimize.minimize(minus, [0.0, 0.0, np.log(5.0), 0.0, 0.0], method="BFGS")
    e = fit.estimates
    assert fit.elbo.value == pytest.approx(-best.fun, abs=1e-6)
    assert fit.elbo.value == pytest.approx(log_likelihood(e["weights"][0], e["shape"], e["rate"]), abs=1e-8)
    np.testing.assert_allclose(np.log(e["shape"]), best.x[1:3], atol=1e-3)
    bounds = [row["bound"] for row in fit.history]
    assert np.diff(bounds).min() >= -1e-10 * abs(bounds[-1])
    assert e.exact
    assert fit.converged


def test_a_wrong_e_step_is_noticed(monkeypatch):
    """Planted: responsibilities that are not the conditional's give a value that the gradient does not belong to."""
    right = Categorical.mean_params
    monkeypatch.setattr(
        Categorical, "mean_params", lambda self: {"indicator": jnp.roll(right(self)["indicator"], 1, -1)}
    )
    with pytest.raises(AssertionError):
        test_a_mixture_of_gammas_reaches_the_maximum_of_its_likelihood()
