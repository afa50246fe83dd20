"""Exact EM against scikit-learn and closed forms; variational EM against what it must equal."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import optimize, stats

import jensen as jn
from jensen._core import Estimates
from jensen._families.exponential import GammaPower
from jensen._learning.em import left_to_gain
from jensen._math.precision import working
from jensen._model.parameters import find_parameters
from jensen._model.parameters.parameter import param_sites
from tests.learning import models as m
from tests.test_examples import example


def bounds(fit):
    return np.array([row["bound"] for row in fit.history])


def never_falls(fit):
    values = bounds(fit)
    return np.diff(values).min() >= -1e-10 * abs(values[-1])


@pytest.fixture(scope="module")
def mixture():
    return example("mixture_em")


def test_a_mixture_is_scikit_learns_from_the_same_start(mixture):
    fit, peer = mixture["fit"], mixture["peer"]
    assert fit.elbo.value == pytest.approx(peer.score_samples(mixture["x"]).sum(), abs=1e-8)
    np.testing.assert_allclose(fit.estimates["mu"], peer.means_, atol=1e-4)
    np.testing.assert_allclose(fit.estimates["sigma"], peer.covariances_, atol=1e-4)
    assert never_falls(fit)
    assert fit.estimates.exact
    assert "Exact EM" in fit.status


def test_the_posterior_is_that_at_the_estimates(mixture):
    fit, x = mixture["fit"], mixture["x"]
    e = fit.estimates
    densities = [stats.multivariate_normal(mu, s).logpdf(x) for mu, s in zip(e["mu"], e["sigma"], strict=True)]
    logs = np.stack(densities, 1) + np.log(e["weights"])
    exact = np.exp(logs - np.logaddexp.reduce(logs, 1, keepdims=True))
    with working("double"):
        found = fit.q.factors["c"].mean_params()["indicator"]
        np.testing.assert_allclose(found, exact, atol=1e-9)
    assert fit.check().verdict == "trusted"
    assert "given 'weights', 'mu', 'sigma'" in str(fit.check())


def test_a_maximum_beside_infinity_is_kept():
    rng = np.random.default_rng(0)
    x = np.array([[-4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[rng.integers(3, size=300)] + rng.normal(size=(300, 2))
    fit = jn.fit(m.mixture, {"x": x}, progress=False)
    e = fit.estimates
    assert fit.outcome.converged
    assert e["weights"].min() < 0.02  # a push makes this component shrink on a single row
    densities = [stats.multivariate_normal(mu, s).logpdf(x) for mu, s in zip(e["mu"], e["sigma"], strict=True)]
    likelihood = np.logaddexp.reduce(np.stack(densities, 1) + np.log(e["weights"]), 1).sum()
    assert fit.elbo.value == pytest.approx(likelihood, abs=1e-6)


@pytest.mark.slow
def test_components_and_factors_reach_the_maximum_of_their_likelihood():
    """Principal components in closed form, factor analysis as far as scikit-learn gets."""
    found = example("factor_analysis")
    x, pca, fa, peer = (found[name] for name in ("x", "pca", "fa", "peer"))
    assert pca.elbo.value == pytest.approx(found["best"], abs=2e-6)
    assert pca.estimates["noise"] ** 2 == pytest.approx(found["noise"], rel=1e-5)
    assert fa.elbo.value == pytest.approx(peer.score_samples(x).sum(), abs=1e-6)
    np.testing.assert_allclose(fa.estimates["noise"] ** 2, peer.noise_variance_, rtol=1e-3)
    for fit in (pca, fa):
        assert fit.converged
        assert never_falls(fit)


def test_hyperparameters_by_empirical_bayes():
    fit = jn.fit(m.groups, m.SCHOOLS, learn=["mu", "tau"])
    assert fit.estimates["mu"] == pytest.approx(m.EFFECTS.mean(), abs=1e-5)
    assert fit.estimates["tau"] == pytest.approx(np.sqrt(m.EFFECTS.var() - 0.49), abs=1e-4)
    assert set(fit.sample(5)) == {"theta"}
    assert fit.predict(num_draws=5)["y"].shape == (5, 8)


def test_relevance_determination_switches_useless_features_off():
    found = example("relevance")
    fit, best = found["fit"], found["best"]
    assert fit.elbo.value >= -best.fun
    np.testing.assert_allclose(fit.estimates["noise"], np.exp(best.x[3]), rtol=1e-3)
    np.testing.assert_allclose(fit.estimates["alpha"][:2], np.exp(best.x[:2]), rtol=1e-3)
    assert fit.estimates["alpha"][2] > 1e5
    assert fit.converged
    assert "levels off as 'alpha' goes to the edge" in fit.status


def test_what_is_left_of_a_slow_sequence():
    t = np.arange(1.0, 2000.0)
    for power in (1.0, 2.0):
        assert left_to_gain(-3.0 / t**power) == pytest.approx(3.0 / 1999**power, rel=0.01)
    assert left_to_gain(np.log(t)) == np.inf  # it has no limit


def test_a_latent_held_at_its_mode_keeps_its_prior():
    fit = jn.fit(m.held, {"sigma": np.full(8, 0.7), "y": m.EFFECTS}, learn=["variance"])

    def objective(v):
        prior = stats.invgamma(2.0, scale=1.0).logpdf(v)
        return prior + stats.norm(0, np.sqrt(v + 0.49)).logpdf(m.EFFECTS).sum()

    best = optimize.minimize_scalar(lambda u: -objective(np.exp(u)), bounds=(-5, 5), method="bounded")
    assert fit.estimates["variance"] == pytest.approx(np.exp(best.x), rel=1e-3)
    assert fit.elbo.value == pytest.approx(-best.fun, abs=1e-6)
    assert "posterior modes" in fit.estimates.bias


def test_the_gaussian_path_finds_the_maximum_of_its_bound():
    fit = jn.fit(m.logistic, {"x": m.DESIGN, "y": m.OUTCOME, "tau": 1.0}, learn=["tau"])
    here = fit.estimates["tau"]
    assert fit.converged
    for factor in (0.8, 1.25):
        other = jn.fit(m.logistic, {"x": m.DESIGN, "y": m.OUTCOME, "tau": here * factor})
        assert other.elbo.value < fit.elbo.value
    assert fit.evidence().importance_weighted[100][0] - fit.elbo.value < 0.05  # little room for bias


def test_equal_starts_are_not_kept():
    def two(x):
        mu = numpyro.param("mu", jnp.zeros(2))
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(2) / 2))
            numpyro.sample("x", dist.Normal(mu[c], 1.0), obs=x)

    x = np.concatenate([stats.norm(-3).rvs(50, random_state=0), stats.norm(3).rvs(50, random_state=1)])
    fit = jn.fit(two, {"x": x})
    assert np.abs(fit.estimates["mu"]).min() > 2.5
    assert "random responsibilities" in fit.status


def test_the_plan_says_what_is_learned():
    rows = {row.site: row for row in jn.explain(m.mixture, {"x": m.CLUSTERS}).rows}
    assert [rows[name].kind for name in ("weights", "mu", "sigma", "c")] == ["learned"] * 3 + ["latent"]
    assert "point estimate" in rows["mu"].update
    assert "learned" in str(jn.explain(m.factors, {"x": m.ROWS, "tied": True}))


def test_a_tree_of_arrays_is_learned_array_by_array():
    """As `flax_module` and `nnx_module` register their weights: dicts in a dict, under name + "$params"."""
    net = {"Dense_0": {"kernel": np.ones((1, 3)), "bias": np.zeros(3)}, "Dense_1": {"kernel": np.ones((3, 1))}}

    def model(y):
        weights = numpyro.param("net$params", net)
        with numpyro.plate("row", len(y)):
            z = numpyro.sample("z", dist.Normal(0, 1))
            hidden = jnp.tanh(z[:, None] @ weights["Dense_0"]["kernel"] + weights["Dense_0"]["bias"])
            numpyro.sample("y", dist.Normal((hidden @ weights["Dense_1"]["kernel"])[:, 0], 1.0), obs=y)

    found = find_parameters(model, {"y": m.EFFECTS})
    names = ["net$params.Dense_0.bias", "net$params.Dense_0.kernel", "net$params.Dense_1.kernel"]
    assert [p.name for p in found] == names
    assert [p.kind for p in found] == ["network"] * 3
    values = {p.name: p.initial + i for i, p in enumerate(found)}
    tree = param_sites(found, values)["net$params"]
    np.testing.assert_array_equal(tree["Dense_0"]["kernel"], net["Dense_0"]["kernel"] + 1)
    estimates = Estimates(values, {p.name: p.kind for p in found}, False)
    assert jax.tree.all(jax.tree.map(np.array_equal, estimates.into("net", net), tree))


def test_networks_with_a_state_are_refused():
    def model(y):
        numpyro.primitives.mutable("net$state", {"mean": 0.0})
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0, 1)), 1.0).expand([8]), obs=y)

    with pytest.raises(jn.ModelError, match=r"keeps a state, 'net\$state'.*batch normalisation"):
        jn.fit(model, {"y": m.EFFECTS})


def test_saved_estimates_come_back(tmp_path):
    fit = jn.fit(m.groups, m.SCHOOLS, learn=["mu", "tau"])
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn")
    assert again.estimates["tau"] == fit.estimates["tau"]
    assert again.estimates.bias == fit.estimates.bias
    attached = again.attach(m.groups, m.SCHOOLS)
    np.testing.assert_allclose(attached.q.means()["theta"], fit.q.means()["theta"])


def test_a_wrong_m_step_is_noticed(monkeypatch):
    """Planted: the inverse of the mode lowers the bound, and the accounts of the half steps say so."""
    right = GammaPower._power_at_mode
    monkeypatch.setattr(GammaPower, "_power_at_mode", lambda self: 1.0 / right(self))
    with pytest.raises(jn.JensenError, match=r"account for|changed the bound"):
        jn.fit(m.groups, m.SCHOOLS, learn=["tau"])
