"""Exact EM against scikit-learn and closed forms; variational EM against what it must equal."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints
from scipy import optimize, stats
from sklearn.mixture import GaussianMixture

import jensen as jn
from jensen.families.exponential import GammaPower
from jensen.math.precision import working
from tests.learning import models as m


def bounds(fit):
    return np.array([row["bound"] for row in fit.history])


def never_falls(fit):
    values = bounds(fit)
    return np.diff(values).min() >= -1e-10 * abs(values[-1])


@pytest.fixture(scope="module")
def mixture_fit():
    return jn.fit(m.mixture, {"x": m.CLUSTERS}, jn.cavi(tolerance=1e-14, max_sweeps=4000))


def test_a_mixture_is_scikit_learns_from_the_same_start(mixture_fit):
    x = m.CLUSTERS
    start = {"weights_init": np.ones(3) / 3, "means_init": x[:3], "precisions_init": np.stack([np.eye(2)] * 3)}
    peer = GaussianMixture(3, tol=1e-15, max_iter=5000, reg_covar=0.0, **start).fit(x)
    assert mixture_fit.elbo.value == pytest.approx(peer.score_samples(x).sum(), abs=1e-8)
    np.testing.assert_allclose(mixture_fit.estimates["mu"], peer.means_, atol=1e-4)
    np.testing.assert_allclose(mixture_fit.estimates["sigma"], peer.covariances_, atol=1e-4)
    assert never_falls(mixture_fit)
    assert mixture_fit.estimates.exact
    assert "Exact EM" in mixture_fit.status


def test_the_posterior_is_that_at_the_estimates(mixture_fit):
    e = mixture_fit.estimates
    densities = [stats.multivariate_normal(mu, s).logpdf(m.CLUSTERS) for mu, s in zip(e["mu"], e["sigma"], strict=True)]
    logs = np.stack(densities, 1) + np.log(e["weights"])
    exact = np.exp(logs - np.logaddexp.reduce(logs, 1, keepdims=True))
    with working("double"):
        found = mixture_fit.q.factors["c"].mean_params()["indicator"]
        np.testing.assert_allclose(found, exact, atol=1e-9)
    assert mixture_fit.check().verdict == "trusted"
    assert "given 'weights', 'mu', 'sigma'" in str(mixture_fit.check())


def test_probabilistic_principal_components_reach_the_closed_form():
    x, k = m.ROWS, 2
    (n, d), fit = x.shape, jn.fit(m.factors, {"x": x, "tied": True}, jn.cavi(tolerance=1e-13))
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    noise = eigenvalues[k:].mean()
    top = np.log(eigenvalues[:k]).sum() + (d - k) * np.log(noise)
    assert fit.elbo.value == pytest.approx(-0.5 * n * (d * np.log(2 * np.pi) + top + d), abs=2e-6)
    assert fit.estimates["noise"] ** 2 == pytest.approx(noise, rel=1e-5)
    assert never_falls(fit)


@pytest.mark.slow
def test_factor_analysis_reaches_scikit_learns_maximum():
    from sklearn.decomposition import FactorAnalysis

    # Six columns, so that the maximum is inside: with few of them a noise may go to zero, and EM creeps for ever.
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(300, 6)) * [0.7, 0.9, 0.8, 1.0, 0.9, 0.8]
    fit = jn.fit(m.factors, {"x": x, "tied": False}, jn.cavi(tolerance=1e-13, max_sweeps=20_000))
    peer = FactorAnalysis(2, tol=1e-13, max_iter=50_000, svd_method="lapack").fit(x)
    assert fit.converged
    assert fit.elbo.value == pytest.approx(peer.score_samples(x).sum(), abs=1e-6)
    np.testing.assert_allclose(fit.estimates["noise"] ** 2, peer.noise_variance_, rtol=1e-3)
    assert never_falls(fit)


def test_hyperparameters_by_empirical_bayes():
    fit = jn.fit(m.groups, m.SCHOOLS, learn=["mu", "tau"])
    assert fit.estimates["mu"] == pytest.approx(m.EFFECTS.mean(), abs=1e-5)
    assert fit.estimates["tau"] == pytest.approx(np.sqrt(m.EFFECTS.var() - 0.49), abs=1e-4)
    assert set(fit.sample(5)) == {"theta"}
    assert fit.predict(num_draws=5)["y"].shape == (5, 8)


def test_relevance_determination_switches_useless_features_off():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 3))
    y = x @ np.array([2.0, -1.0, 0.0]) + 0.5 * rng.normal(size=60)
    data = {"x": x, "y": y, "alpha": np.ones(3), "noise": 1.0}
    learn = {"alpha": constraints.positive, "noise": constraints.positive}

    def evidence(log_alpha, log_noise):
        cov = x / np.exp(log_alpha) @ x.T + np.exp(2 * log_noise) * np.eye(60)
        return stats.multivariate_normal(np.zeros(60), cov).logpdf(y)

    best = optimize.minimize(lambda p: -evidence(np.clip(p[:3], -8, 12), p[3]), np.zeros(4), method="L-BFGS-B")
    full = jn.fit(m.relevance, data, jn.advi(family="full_rank"), learn=learn)
    assert full.elbo.value == pytest.approx(-best.fun, abs=0.02)
    np.testing.assert_allclose(full.estimates["noise"], np.exp(best.x[3]), rtol=1e-2)
    np.testing.assert_allclose(full.estimates["alpha"][:2], np.exp(best.x[:2]), rtol=2e-2)
    assert full.estimates["alpha"][2] > 20.0
    assert best.x[2] > 3.0
    assert "drawn to where q fits better" in full.estimates.bias


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
    import numpyro
    import numpyro.distributions as dist

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
