"""Fits with latents integrated out: θ, the latents' own draws, and everything that a `Fit` does with them."""

import numpy as np
import pytest
from scipy.special import logsumexp

import jensen as jn
from tests.nested import models


@pytest.fixture(scope="module")
def fit():
    return jn.fit(models.counts, {"y": models.COUNTS}, progress=False)


@pytest.fixture(scope="module")
def exact():
    """Means and sds of b, s and of the first effects, from a grid over θ, and log p(y)."""
    b, v = np.linspace(-1.5, 2.0, 41), np.linspace(-5.0, 1.0, 61)
    logs = np.array([[models.counts_log_joint(one, np.exp(two), nodes=401) + two for two in v] for one in b])
    shares = np.exp(logs - logsumexp(logs))
    values = {"b": b[:, None] + 0 * v, "s": 0 * b[:, None] + np.exp(v)}
    moments = {}
    for name, at in values.items():
        mean = (shares * at).sum()
        moments[name] = mean, np.sqrt((shares * (at - mean) ** 2).sum())
    t = np.linspace(-8.0, 8.0, 401)
    for row in (0, 5):
        first, second = np.zeros_like(shares), np.zeros_like(shares)
        for i, one in enumerate(b):
            u = np.exp(v)[:, None] * t
            w = models.COUNTS[row] * (one + u) - np.exp(one + u) - 0.5 * t**2
            w = np.exp(w - logsumexp(w, axis=1, keepdims=True))
            first[i], second[i] = (w * u).sum(axis=1), (w * u**2).sum(axis=1)
        mean = (shares * first).sum()
        moments[f"u[{row}]"] = mean, np.sqrt((shares * second).sum() - mean**2)
    return moments, logsumexp(logs) + np.log((b[1] - b[0]) * (v[1] - v[0]))


def test_auto_integrates_and_is_right(fit, exact):
    moments, evidence = exact
    assert "integrated out" in fit.status
    assert fit.check().verdict in ("trusted", "usable")
    summary = fit.summary()
    for name, (mean, sd) in moments.items():
        assert abs(summary.loc[name, "mean"] - mean) < 0.12 * sd
        assert summary.loc[name, "sd"] == pytest.approx(sd, rel=0.1)
    low, high = fit.evidence().interval
    assert low - 0.05 < evidence < high + 0.05


def test_draws_hold_all_latents_and_what_depends_on_them(fit):
    draws = fit.sample(50)
    assert draws["u"].shape == draws["rate"].shape == (50, models.GROUPS)
    np.testing.assert_allclose(draws["rate"], np.exp(draws["b"][:, None] + draws["u"]), rtol=1e-6)


def test_a_saved_fit_is_attached_and_predicts(fit, tmp_path):
    fit.save(tmp_path / "fit.jn")
    loaded = jn.load(tmp_path / "fit.jn")
    assert loaded.check().verdict == fit.check().verdict
    assert loaded.summary().loc["u[3]", "mean"] == fit.summary().loc["u[3]", "mean"]
    again = loaded.attach(models.counts, {"y": models.COUNTS})
    np.testing.assert_array_equal(again.sample(20)["u"], fit.sample(20)["u"])
    assert again.predict(num_draws=10)["y"].shape == (10, models.GROUPS)
    tree = again.to_arviz(20)
    assert tree["posterior"]["u"].dims == ("chain", "draw", "row")
    assert tree["log_likelihood"]["y"].shape == (1, 20, models.GROUPS)
