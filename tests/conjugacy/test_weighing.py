"""Draws of products of factors in chunks, and the gap between bound and evidence that weights see."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.coordinate.ascent import Ascent
from jensen._conjugate.coordinate.collapse import Collapse, collapses
from jensen._conjugate.coordinate.starts import random_start
from jensen._conjugate.coordinate.weighing import Weigher, gap
from jensen._families.exponential import GammaPower, Normal, Product, draw_many
from jensen._math.precision import working
from jensen._math.programs import Program

from .zoo import ZOO

X = np.random.default_rng(0).normal(1.5, 2.0, 12)


def normal(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mu, 1 / jnp.sqrt(tau)), obs=x)


GROWTH = np.random.default_rng(1).normal(3.0, 1.0, (6, 4))


def growth(y):
    """Lines with an intercept and a slope for each row: priors share no term with each other's coefficients."""
    mu_a, mu_b = numpyro.sample("mu_a", dist.Normal(0, 10)), numpyro.sample("mu_b", dist.Normal(0, 10))
    tau, tau_a, tau_b = (numpyro.sample(name, dist.Gamma(2, 1)) for name in ("tau", "tau_a", "tau_b"))
    with numpyro.plate("row", len(y)):
        a = numpyro.sample("a", dist.Normal(mu_a, tau_a**-0.5))
        b = numpyro.sample("b", dist.Normal(mu_b, tau_b**-0.5))
        line = a[:, None] + b[:, None] * jnp.arange(4.0)
        numpyro.sample("y", dist.Normal(line, tau**-0.5).to_event(1), obs=y)


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
    monkeypatch.setattr("jensen._auto.auto.NEGLIGIBLE", 10.0)
    assert [stage["family"] for stage in jn.fit(normal, {"x": X}).outcome.stages] == ["conjugate factors"]
    monkeypatch.setattr("jensen._auto.auto.NEGLIGIBLE", 0.0)
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


def test_densities_alone_are_those_of_the_whole_program(fit, monkeypatch):
    weigher = Weigher(fit.outcome.q, fit.outcome.q.weighables()[0])
    values = weigher.draw(weigher.wide, 300, 4)
    _, *both = weigher(values, 300)
    monkeypatch.setattr("jensen._conjugate.coordinate.weighing.LONG", 0)
    for alone, together in zip(weigher.densities(values, 300), both, strict=True):
        np.testing.assert_allclose(alone, together, rtol=1e-12)


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


def conditional_by_bayes(plan, values, arrays):
    """log p(x, g) = log p(x, g, C) - Σ_C log p(C | x, g), with the conditionals of what leaves, one by one."""
    model = plan.model
    found = Collapse(model, tuple(model.blocks), ()).log_joint(values, arrays)
    for name, natural in plan.conditionals(values, arrays).items():
        sites = (values[site] for site in model.blocks[name].sites)
        found = found - jnp.sum(model.factor(name, natural).log_prob(*sites))
    return found


@pytest.mark.parametrize("name", ["growth", "two_discrete_sites"])
def test_what_leaves_leaves_by_bayes_rule(name):
    """Whatever value the blocks that leave have; blocks that depend on each other cannot leave together."""
    fn, data = (growth, {"y": GROWTH}) if name == "growth" else ZOO[name]
    with working("double"):
        model = build_conjugate(fn, data)
        ascent = Ascent(model)
        state = ascent.begin(random_start(model, np.random.default_rng(0), seeds=False))
        blocks = tuple((n, model.blocks[n].sites) for n in model.blocks)
        drawn = draw_many(Product({n: model.factor(n, state.naturals[n]) for n in model.blocks}, blocks), 2, 0)
        plans = collapses(model, None)
        for plan in plans:
            both = Program(lambda v, a, p=plan: (p.log_joint(v, a), conditional_by_bayes(p, v, a)))
            for i in range(2):
                found, expected = both({site: value[i] for site, value in drawn.items()}, model.energy.arrays)
                assert float(found) == pytest.approx(float(expected), abs=1e-8)
    assert all(plan.out for plan in plans)
