"""Fits with latents integrated out: θ, the latents' own draws, and everything that a `Fit` does with them."""

import numpy as np
import pytest

import jensen as jn
from tests.nested import models


@pytest.fixture(scope="module")
def fit():
    return jn.fit(models.counts, {"y": models.COUNTS}, progress=False)


def test_auto_integrates_and_is_right(fit, exact):
    assert "integrated out" in fit.status
    models.assert_right(fit, *exact)


def test_draws_hold_all_latents_and_what_depends_on_them(fit):
    draws = fit.sample(50)
    assert draws["u"].shape == draws["rate"].shape == (50, models.GROUPS)
    np.testing.assert_allclose(draws["rate"], np.exp(draws["b"][:, None] + draws["u"]), rtol=1e-6)


def test_a_table_of_some_sites_has_the_rows_of_the_whole_and_draws_nothing_anew(fit, monkeypatch):
    whole = fit.summary()
    monkeypatch.setattr("jensen._verdict.table._shared", None)
    some = fit.summary(["s", "rate"])
    assert list(some.index) == ["s", *(f"rate[{i}]" for i in range(models.GROUPS))]
    np.testing.assert_array_equal(some.loc["rate[3]"], whole.loc["rate[3]"])


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
