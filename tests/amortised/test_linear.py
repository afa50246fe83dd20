"""The linear VAE: its optimum is probabilistic principal components, and its encoder the exact posterior."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest

import jensen as jn
from jensen._amortised.checks import Rows
from jensen._verdict.checks import Optimiser
from jensen._verdict.verdict import Material, verdict
from tests.amortised import models as m


@pytest.fixture(scope="module")
def fit():
    return jn.fit(m.linear, {"x": m.X}, jn.amortised(hidden=(4,)))


def optimum():
    eigenvalues = np.linalg.eigvalsh(np.cov(m.X.T, bias=True))[::-1]
    noise = eigenvalues[m.K :].mean()
    top = np.log(eigenvalues[: m.K]).sum() + (m.D - m.K) * np.log(noise)
    return -0.5 * (m.D * np.log(2 * np.pi) + top + m.D), np.sqrt(noise)


def posterior(fit, x):
    loadings, noise, mean = (fit.estimates[name] for name in ("loadings", "noise", "mean"))
    precision = loadings.T @ loadings + noise**2 * np.eye(m.K)
    return (x - mean) @ loadings @ np.linalg.inv(precision), noise * np.sqrt(np.diag(np.linalg.inv(precision)))


def test_it_reaches_the_closed_form(fit):
    best, noise = optimum()
    assert fit.converged
    assert fit.elbo.value / m.N == pytest.approx(best, abs=1e-3)
    assert fit.estimates["noise"] == pytest.approx(noise, rel=0.02)


def test_the_encoder_is_the_posterior(fit):
    x = m.X[:20] + 0.1
    mean, sd = posterior(fit, x)
    found = fit.infer({"x": x})
    assert np.abs(found.loc - mean).max() < 0.2 * sd.min()
    np.testing.assert_allclose(found.scale, np.broadcast_to(sd, found.scale.shape), rtol=0.05)
    closer = fit.infer({"x": x}, refine=True)
    assert np.abs(closer.loc - mean).max() < 0.02 * sd.min()
    assert closer.refined


def test_the_verdict_and_the_gap(fit):
    report = fit.check()
    assert report.verdict == "trusted"
    gap = next(check for check in report.checks if check.name.startswith("amortisation gap"))
    assert abs(gap.value) < 1e-3
    assert "'loadings', 'mean', 'noise'" in str(report)


def test_latents_that_say_nothing_of_their_rows_are_noticed(fit):
    rows = fit.answer.row_statistics
    assert rows.active == rows.dim == m.K
    material = Material(fit.answer, fit.answer.pool(0), {}, 0)
    report = verdict(material, [Optimiser(), Rows(replace(rows, active=0))])
    assert report.verdict == "usable"
    assert any("posterior collapse" in reason for reason in report.reasons)
    assert "another seed" in report.remedy


def test_the_evidence_is_that_of_the_learned_model(fit):
    loadings, noise, mean = (fit.estimates[name] for name in ("loadings", "noise", "mean"))
    from scipy import stats

    exact = stats.multivariate_normal(mean, loadings @ loadings.T + noise**2 * np.eye(m.D)).logpdf(m.X).sum()
    found = fit.evidence()
    assert found.log_evidence == pytest.approx(exact, abs=0.1)
    assert found.interval[0] < exact < found.interval[1]
    rows = fit.infer({"x": m.X[:5]})
    own = stats.multivariate_normal(mean, loadings @ loadings.T + noise**2 * np.eye(m.D)).logpdf(m.X[:5])
    np.testing.assert_allclose(rows.log_evidence(), own, atol=5e-3)
    np.testing.assert_allclose(rows.elbo(), own, atol=2e-2)


def test_surgery_of_the_bound(fit):
    found = fit.surgery()
    loadings, noise = fit.estimates["loadings"], fit.estimates["noise"]
    assert found.elbo == pytest.approx(fit.elbo.value / m.N, abs=2e-2)
    parts = found.reconstruction - found.mutual_information - found.marginal + found.shared
    assert found.elbo == pytest.approx(parts, abs=1e-9)
    # For a Gaussian channel that is also the aggregate: I = 1/2 log(1 + W'W / s^2) up to the sample of rows.
    channel = 0.5 * np.log1p((loadings.T @ loadings)[0, 0] / noise**2)
    assert found.mutual_information == pytest.approx(channel, abs=0.15)
    assert found.mutual_information < np.log(m.N)
    assert "mutual information" in str(found)


def test_new_rows_and_predictions(fit):
    assert fit.predict({"x": m.X[:7]}, num_draws=3)["x"].shape == (3, 7, m.D)
    assert fit.predict(num_draws=2)["x"].shape == (2, m.N, m.D)
    draws = fit.predict({"x": m.X[:7]}, num_draws=400)["x"]
    assert np.abs(draws.mean(axis=0) - m.X[:7]).max() < 1.6  # from the rows' own latents, not from the prior
    assert fit.sample(5)["z"].shape == (5, m.N, m.K)
    assert fit.infer({"x": m.X[:3]}).sample(4, corrected=True)["z"].shape == (4, 3, m.K)
    assert list(fit.summary().index[:2]) == ["z[0,0]", "z[1,0]"]


def test_a_saved_fit_comes_back(fit, tmp_path):
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn")
    assert again.check().verdict == fit.check().verdict
    assert again.evidence().interval == fit.evidence().interval
    attached = again.attach(m.linear, {"x": m.X})
    np.testing.assert_array_equal(attached.infer({"x": m.X[:5]}).loc, fit.infer({"x": m.X[:5]}).loc)


def test_interrupted_it_keeps_what_it_has_learned():
    seen = []

    def stop(item):
        seen.append(item)
        if item.phase == "ascent" and item.step > 400:
            raise KeyboardInterrupt

    found = jn.fit(m.linear, {"x": m.X}, jn.amortised(hidden=(4,)), progress=stop)
    assert "Interrupted by the user" in found.status
    assert not found.converged
    assert found.estimates["noise"] != 1.0
    assert np.isfinite(found.elbo.value)


def test_the_same_seed_gives_the_same_bits():
    fits = [jn.fit(m.linear, {"x": m.X}, jn.amortised(hidden=(4,), max_epochs=200)) for _ in range(2)]
    np.testing.assert_array_equal(*(found.estimates["loadings"] for found in fits))
    assert fits[0].elbo == fits[1].elbo
    assert "Stopped after" in fits[0].status


@pytest.mark.slow
def test_an_encoder_of_ones_own_is_given_back(tmp_path):
    module = eqx.nn.Linear(m.D, 2 * m.K, key=jax.random.key(0))
    fit = jn.fit(m.linear, {"x": m.X}, jn.amortised(module, max_epochs=400))
    fit.save(tmp_path / "fit.jn")
    saved = jn.load(tmp_path / "fit.jn")
    with pytest.raises(jn.UndefinedError, match="encoder of your own"):
        saved.attach(m.linear, {"x": m.X})
    again = saved.attach(m.linear, {"x": m.X}, encoder=module)
    np.testing.assert_allclose(again.infer({"x": m.X[:5]}).loc, fit.infer({"x": m.X[:5]}).loc, rtol=1e-6)
    other = eqx.nn.MLP(m.D, 2 * m.K, 3, 1, key=jax.random.key(0))
    with pytest.raises(jn.OptionError, match="differ in name or shape"):
        saved.attach(m.linear, {"x": m.X}, encoder=other)
