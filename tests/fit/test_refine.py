"""On from a fit by Markov chains: the draws are the posterior's, and the verdict is about the chains."""

import types

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._math.mixing import mixing


def skewed(y):
    """Exact: 1 / s² is Gamma(5 + n / 2, 1 + Σ y² / 2) under its Gamma(5, 1) prior."""
    precision = numpyro.sample("precision", dist.Gamma(5.0, 1.0))
    with numpyro.plate("rows", 4):
        numpyro.sample("y", dist.Normal(0.0, 1.0 / jnp.sqrt(precision)), obs=y)


Y = np.array([1.5, -0.5, 2.0, 0.3])


@pytest.fixture(scope="module")
def refined():
    return jn.fit(skewed, {"y": Y}, "laplace", progress=False).refine(num_effective=1000)


def test_the_draws_are_those_of_the_posterior(refined):
    shape, rate = 5.0 + len(Y) / 2, 1.0 + (Y**2).sum() / 2
    draws = refined.sample(1000)["precision"]
    report = refined.check()
    assert report.verdict == "trusted"
    assert draws.mean() == pytest.approx(shape / rate, abs=4 * np.sqrt(shape) / rate / np.sqrt(1000))
    assert draws.std() == pytest.approx(np.sqrt(shape) / rate, rel=0.15)
    worth = next(c.value for c in report.checks if c.name == "effective draws of chains")
    row = refined.summary().loc["precision"]
    assert row["mcse_mean"] == pytest.approx(row["sd"] / np.sqrt(worth), rel=0.1)


def test_it_is_kept_in_a_file_and_predicts(refined, tmp_path):
    refined.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn")
    assert again.check() == refined.check()
    attached = again.attach(skewed, {"y": Y})
    np.testing.assert_array_equal(attached.sample(50)["precision"], refined.sample(50)["precision"])
    assert refined.predict(num_draws=7)["y"].shape == (7, 4)


def test_its_bound_is_below_the_evidence(refined):
    exact = _log_evidence()
    found = refined.evidence()
    assert refined.elbo.value < exact + 4 * refined.elbo.se
    assert found.log_evidence == pytest.approx(exact, abs=5 * found.log_evidence_se + 0.01)


def _log_evidence() -> float:
    from scipy.special import gammaln

    n, shape, rate = len(Y), 5.0 + len(Y) / 2, 1.0 + (Y**2).sum() / 2
    return float(-0.5 * n * np.log(2 * np.pi) - gammaln(5.0) + gammaln(shape) - shape * np.log(rate))


def test_a_budget_that_is_used_up_is_said():
    found = jn.fit(skewed, {"y": Y}, "laplace", progress=False).refine(num_draws=250, num_effective=100_000)
    assert not found.converged
    assert "used up" in found.status


@pytest.mark.parametrize("verdict", ["trusted", "usable", "untrusted"])
def test_auto_finishes_only_what_is_untrusted(verdict, monkeypatch):
    monkeypatch.setattr(jn.Fit, "check", lambda self: types.SimpleNamespace(verdict=verdict))
    monkeypatch.setattr(jn.Fit, "refine", lambda self, **options: "refined")
    found = jn.fit(skewed, {"y": Y}, jn.auto(finish=True), progress=False)
    assert (found == "refined") == (verdict == "untrusted")


def test_the_live_line_of_chains_has_no_bound(capsys):
    jn.fit(skewed, {"y": Y}, "laplace", progress=False).refine(num_draws=250, progress=True)
    shown = capsys.readouterr().err
    assert "NUTS" in shown
    assert "effective draws" in shown
    assert "nan" not in shown


def test_what_has_no_density_is_refused():
    def rows(y):
        place = numpyro.sample("place", dist.Normal(0.0, 10.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(place, 1.0), obs=y)

    batches = jn.Batches([{"y": np.zeros(20)}, {"y": np.ones(20)}])
    with pytest.raises(jn.UndefinedError, match="NUTS"):
        jn.fit(rows, batches, progress=False).refine()


@pytest.mark.slow
def test_the_evidence_counts_all_labellings_and_classes_are_drawn():
    def classes(x):
        with numpyro.plate("states", 2):
            mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Categorical(jnp.ones(2) / 2))
            numpyro.sample("x", dist.Normal(mu[z], 1.0), obs=x)

    x = np.random.default_rng(0).normal(size=20) + 4.0 * (np.arange(20) < 10)
    before = jn.fit(classes, {"x": x}, "cavi", progress=False)
    after = before.refine(progress=False)
    found, expected = after.evidence(), before.evidence()
    assert found.log_evidence == pytest.approx(expected.log_evidence, abs=0.02)
    assert found.log_labellings == pytest.approx(np.log(2.0))
    assert after.sample(30)["z"].shape == (30, 20)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_chains_that_stay_apart_have_a_large_r_hat(shift):
    points = np.random.default_rng(0).normal(size=(4, 500, 2))
    points[0, :, 1] += shift
    rhat, effective = mixing(points)
    assert rhat[0] < 1.01
    assert effective[0] == pytest.approx(2000, rel=0.2)
    assert (rhat[1] > 1.05) == (shift > 0)


def test_an_autoregressive_chain_is_worth_as_much_as_theory_says():
    noise, rho = np.random.default_rng(1).normal(size=(4, 5000, 1)), 0.8
    points = np.empty_like(noise)
    points[:, 0] = noise[:, 0] / np.sqrt(1 - rho**2)
    for t in range(1, 5000):
        points[:, t] = rho * points[:, t - 1] + noise[:, t]
    assert mixing(points)[1][0] == pytest.approx(20_000 * (1 - rho) / (1 + rho), rel=0.15)
