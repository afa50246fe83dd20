"""`obs_mask`: the posterior is that of the entries seen, and what is not seen is drawn from its conditional."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import jensen as jn

RNG = np.random.default_rng(1)
Y = RNG.normal(1.0, 1.0, 20)
SEEN = RNG.random(20) < 0.7
DATA = {"y": np.where(SEEN, Y, 0.0), "seen": SEEN}


def normal(y, seen):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", len(seen)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y, obs_mask=seen)


def closed_form(y, seen):
    """Posterior mean and sd of mu."""
    n = seen.sum() + 1
    return y[seen].sum() / n, n**-0.5


@pytest.fixture(scope="module")
def fit():
    return jn.fit(normal, DATA, progress=False)


@pytest.mark.parametrize("method", ["cavi", "laplace", jn.bbvi(max_steps=300), "pathfinder"])
def test_every_method_finds_the_posterior_of_the_entries_seen(method):
    fit = jn.fit(normal, DATA, method, progress=False)
    table, (mean, sd) = fit.summary(), closed_form(Y, SEEN)
    if method == "laplace":
        assert fit.check().verdict == "trusted"  # the entries seen are constants, up to rounding
    assert table.loc["mu", "mean"] == pytest.approx(mean, abs=0.03)
    assert table.loc["mu", "sd"] == pytest.approx(sd, rel=0.08)


def test_what_is_not_seen_is_predicted_and_what_is_seen_stays(fit):
    mean, sd = closed_form(Y, SEEN)
    assert fit.check().verdict == "trusted"
    table = fit.summary()
    first = int(np.flatnonzero(~SEEN)[0])
    for name in (f"y[{first}]", f"y_unobserved[{first}]"):
        assert table.loc[name, "mean"] == pytest.approx(mean, abs=0.06)
        assert table.loc[name, "sd"] == pytest.approx(np.hypot(1.0, sd), rel=0.05)
    draws = fit.sample(500)
    np.testing.assert_array_equal(draws["y"][:, SEEN], np.broadcast_to(Y[SEEN], (500, SEEN.sum())))
    np.testing.assert_array_equal(draws["y"][:, ~SEEN], draws["y_unobserved"][:, ~SEEN])
    assert np.corrcoef(draws["y"][:, first], draws["mu"])[0, 1] > 0.1  # sd / sqrt(1 + sd²) = 0.26


def test_predict_arviz_and_files(fit, tmp_path):
    assert fit.predict(num_draws=50)["y_observed"].shape == (50, 20)
    new = fit.predict({"y": None, "seen": np.ones(7, bool)}, num_draws=50)
    assert new["y_observed"].shape == (50, 7)
    tree = fit.to_arviz(50)
    assert tree["posterior"]["y"].dims[2:] == ("row",)
    assert np.isfinite(tree["posterior"]["y_unobserved"]).all()
    assert (tree["log_likelihood"]["y_observed"].values[..., ~SEEN] == 0).all()
    fit.save(tmp_path / "fit.jn")
    loaded = jn.load(tmp_path / "fit.jn")
    np.testing.assert_allclose(loaded.sample(5)["y"][:, SEEN], np.broadcast_to(Y[SEEN], (5, SEEN.sum())), rtol=1e-6)
    again = loaded.attach(normal, DATA)
    assert again.sample(50)["y"][:, ~SEEN].std() > 0.5


@pytest.mark.parametrize("seen", [np.ones(20, bool), np.zeros(20, bool)], ids=["all", "none"])
def test_all_and_none(seen):
    fit = jn.fit(normal, {"y": Y, "seen": seen}, "laplace", progress=False)
    mean, sd = closed_form(Y, seen)
    assert float(fit.q.loc[0]) == pytest.approx(mean, abs=1e-6)
    assert float(fit.q.scales()[0]) == pytest.approx(sd, rel=1e-6)
    if not seen.any():
        assert fit.sample(4000)["y"].std() == pytest.approx(2**0.5, rel=0.03)


def test_matrices_with_plates_and_gaps_that_are_nan():
    y = RNG.normal(size=(6, 4))
    seen = RNG.random((6, 4)) < 0.6

    def model(y, seen):
        with numpyro.plate("column", 4, dim=-1):
            mu = numpyro.sample("mu", dist.Normal(0, 1))
            with numpyro.plate("row", 6, dim=-2):
                numpyro.sample("y", dist.Normal(mu, 1), obs=y, obs_mask=seen)

    for method in ("laplace", "cavi"):
        table = jn.fit(model, {"y": np.where(seen, y, np.nan), "seen": seen}, method, progress=False).summary(["mu"])
        n = seen.sum(axis=0) + 1
        np.testing.assert_allclose(table["mean"], np.where(seen, y, 0.0).sum(axis=0) / n, atol=0.03)
        np.testing.assert_allclose(table["sd"], n**-0.5, rtol=0.05)


def test_vectors():
    y = RNG.normal(size=(9, 2))
    seen = np.arange(9) % 3 > 0
    root = np.array([[1.0, 0.0], [0.5, 0.8]])

    def model(y, seen):
        mu = numpyro.sample("mu", dist.Normal(0, 1).expand([2]).to_event(1))
        with numpyro.plate("row", 9):
            numpyro.sample("y", dist.MultivariateNormal(mu, scale_tril=root), obs=y, obs_mask=seen)

    fit = jn.fit(model, {"y": y, "seen": seen}, "laplace", progress=False)
    inverse = np.linalg.inv(root @ root.T)
    covariance = np.linalg.inv(np.eye(2) + 6 * inverse)
    np.testing.assert_allclose(fit.q.loc, covariance @ inverse @ y[seen].sum(axis=0), atol=1e-6)
    assert fit.sample(10)["y"].shape == (10, 9, 2)


def test_counts_without_bounds():
    """Gamma(2, 1) and Poisson: Gamma(2 + Σ y, 1 + n) over the counts seen; the others are drawn, not summed out."""
    y = RNG.poisson(4.0, 15)
    seen = np.arange(15) % 4 > 0

    def model(y, seen):
        rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
        with numpyro.plate("row", 15):
            numpyro.sample("y", dist.Poisson(rate), obs=y, obs_mask=seen)

    fit = jn.fit(model, {"y": y, "seen": seen}, "cavi", progress=False)
    shape, rate = 2.0 + y[seen].sum(), 1.0 + seen.sum()
    table = fit.summary()
    assert table.loc["rate", "mean"] == pytest.approx(shape / rate, rel=1e-6)
    assert table.loc["rate", "sd"] == pytest.approx(shape**0.5 / rate, rel=1e-6)
    draws = fit.sample(2000)["y"][:, ~seen]
    assert draws.dtype.kind == "i"
    assert draws.mean() == pytest.approx(shape / rate, rel=0.03)
    assert draws[:, 0].var() == pytest.approx(shape / rate + shape / rate**2, rel=0.1)


def test_a_covariate_with_gaps_is_a_latent():
    """x ~ N(m, 1) with gaps, y ~ N(x, 1/2), m ~ N(0, 1): a Gaussian posterior in closed form; others do not depend."""
    x = RNG.normal(1.0, 1.0, 8)
    y = x + 0.5 * RNG.normal(size=8)
    seen = np.arange(8) > 2

    def model(x, y, seen):
        m = numpyro.sample("m", dist.Normal(0, 1))
        with numpyro.plate("row", 8):
            x = numpyro.sample("x", dist.Normal(m, 1), obs=x, obs_mask=seen)
            numpyro.sample("y", dist.Normal(x, 0.5), obs=y)

    fit = jn.fit(model, {"x": np.where(seen, x, 0.0), "y": y, "seen": seen}, "laplace", progress=False)
    n = 1 + seen.sum() + (~seen).sum() / 1.25
    mean = (x[seen].sum() + y[~seen].sum() / 1.25) / n
    draws = fit.sample(4000)
    assert draws["m"].mean() == pytest.approx(mean, abs=0.03)
    assert draws["m"].std() == pytest.approx(n**-0.5, rel=0.05)
    expected = (mean + 4 * y[:3]) / 5
    np.testing.assert_allclose(draws["x"][:, :3].mean(axis=0), expected, atol=0.04)
    np.testing.assert_array_equal(draws["x"][:, 3:], np.broadcast_to(x[3:], (4000, 5)))


def test_components_that_are_summed_out():
    """A gap in a mixture says nothing of the components: the fit is that of the rows seen."""
    y = np.concatenate([RNG.normal(-3, 0.5, 10), RNG.normal(3, 0.5, 10)])
    seen = np.arange(20) % 5 > 0

    def model(y, seen):
        mu = numpyro.sample("mu", dist.Normal(jnp.array([-2.0, 2.0]), 1).to_event(1))
        with numpyro.plate("row", len(y)):
            k = numpyro.sample("k", dist.Categorical(jnp.array([0.5, 0.5])))
            numpyro.sample("y", dist.Normal(mu[k], 0.5), obs=y, obs_mask=seen)

    fit = jn.fit(model, {"y": y, "seen": seen}, "laplace", progress=False)
    n = 8
    expected = [(4 * y[:10][seen[:10]].sum() - 2.0) / (1 + 4 * n), (4 * y[10:][seen[10:]].sum() + 2.0) / (1 + 4 * n)]
    np.testing.assert_allclose(fit.q.loc, expected, atol=1e-3)
    draws = fit.sample(500)
    assert draws["y"][:, 0].std() > 2.0  # either component
    assert "mu[0]" in fit.summary().index


def test_inside_a_scan_it_is_refused_with_a_remedy():
    def model(y, seen):
        def step(state, row):
            state = numpyro.sample("x", dist.Normal(0.5 * state, 1.0))
            numpyro.sample("y", dist.Normal(state, 1.0), obs=row[0], obs_mask=row[1])
            return state, None

        scan(step, 0.0, (y, seen))

    with pytest.raises(jn.ModelError, match="obs_mask inside a scan") as refusal:
        jn.fit(model, DATA, progress=False)
    assert "numpyro.handlers.mask" in refusal.value.remedy
