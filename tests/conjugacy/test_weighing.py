"""Draws of products of factors in chunks, and the gap between bound and evidence that weights see."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen.algorithms.coordinate.weighing import Weigher, gap
from jensen.families.exponential import GammaPower, Normal, Product, draw_many
from jensen.math.precision import working

X = np.random.default_rng(0).normal(1.5, 2.0, 12)


def normal(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mu, 1 / jnp.sqrt(tau)), obs=x)


def log_evidence(x) -> float:
    """Simpson's rule over mu on a fine grid, tau integrated out in closed form."""
    from scipy import integrate, stats
    from scipy.special import gammaln

    def density(mu):
        rate = 1.0 + 0.5 * np.sum((x - mu) ** 2)
        shape = 2.0 + 0.5 * len(x)
        return gammaln(shape) - shape * np.log(rate) - 0.5 * len(x) * np.log(2 * np.pi) + stats.norm.logpdf(mu, 0, 2)

    grid = np.linspace(-8.0, 9.0, 4001)
    logs = np.array([density(mu) for mu in grid])
    return float(logs.max() + np.log(integrate.simpson(np.exp(logs - logs.max()), x=grid)))


@pytest.fixture(scope="module")
def fit():
    return jn.fit(normal, {"x": X}, "cavi")


def test_the_gap_is_evidence_less_bound(fit):
    found, error = gap(fit.outcome.q, fit.elbo.value)
    assert error < 0.01
    assert found == pytest.approx(log_evidence(X) - fit.elbo.value, abs=4 * error)
    assert found > 0.01


def test_auto_leaves_gaussians_alone_only_where_they_cannot_gain(fit, monkeypatch):
    monkeypatch.setattr("jensen.algorithms.auto.NEGLIGIBLE", 10.0)
    assert jn.fit(normal, {"x": X}).outcome.stages == ()
    monkeypatch.setattr("jensen.algorithms.auto.NEGLIGIBLE", 0.0)
    assert [stage["family"] for stage in jn.fit(normal, {"x": X}).outcome.stages] == ["conjugate factors", "Gaussian"]


def test_weights_come_out_alike_whatever_leaves(fit):
    """E_q[p/q] over the marginal of either latent is the evidence."""
    exact = log_evidence(X)
    for way in fit.outcome.q.weighables():
        weigher = Weigher(fit.outcome.q, way)
        log_joint, log_q, log_wide = weigher(weigher.draw(weigher.wide, 2000, 3), 2000)
        weights = np.exp(log_joint - log_wide - exact)
        assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(2000)
        assert np.all(np.isfinite(log_q))


@pytest.fixture(scope="module")
def product():
    with working("double"):
        gamma = GammaPower({"power": jnp.array([-1.0, -3.0]), "log": jnp.array([1.0, 4.0])}, 1.0)
        factors = {"a": gamma, "b": Normal({"z": jnp.array(4.0), "zz": jnp.array(-2.0)})}
        return Product(factors, (("a", ("a",)), ("b", ("b",))))


def test_draws_in_chunks_follow_the_factors(product):
    with working("double"):
        drawn = draw_many(product, 5000, 0)
        assert drawn["a"].shape == (5000, 2)
        assert drawn["b"].shape == (5000,)
        for site, mean in product.means().items():
            sd = np.sqrt(np.asarray(product.variances()[site]))
            assert np.all(np.abs(drawn[site].mean(axis=0) - mean) < 4 * sd / np.sqrt(5000))
            assert np.all(np.abs(drawn[site].std(axis=0) / sd - 1) < 0.1)
        assert len(np.unique(drawn["b"])) == 5000  # no chunk repeats another
        np.testing.assert_array_equal(draw_many(product, 2000, 0)["a"], drawn["a"][:2000])
        assert not np.any(draw_many(product, 2000, 1)["b"] == drawn["b"][:2000])
