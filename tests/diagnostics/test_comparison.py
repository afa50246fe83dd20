"""`jn.compare`: one row per fit, sorted by the bound; fits of different data are refused."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from tests.posteriors import (
    SCHOOLS,
    conjugate,
    conjugate_answer,
    conjugate_data,
    fitted,
    gaussian,
    logistic,
    logistic_data,
    quadratic_model,
    schools,
)

COLUMNS = [
    "elbo", "elbo_se", "difference", "log_evidence", "log_evidence_se", "log_labellings", "khat", "verdict",
    "seconds_compile", "seconds_run", "gradients", "converged", "method",
]  # fmt: skip


def narrow(x, y):
    """The conjugate model with a prior that the data dislike."""
    with numpyro.plate("feature", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 0.1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def test_methods_side_by_side():
    methods = ("mean_field", "laplace", "auto")
    table = jn.compare({m: fitted("conjugate", m) for m in methods})
    assert list(table.columns) == COLUMNS
    assert table.index.name == "fit"
    assert list(table.index)[-1] == "mean_field"  # the only one with a gap
    assert table["elbo"].is_monotonic_decreasing
    *_, log_evidence = conjugate_answer(**conjugate_data())
    np.testing.assert_allclose(table.loc[["laplace", "auto"], "elbo"], log_evidence, atol=1e-8)
    np.testing.assert_allclose(table["log_evidence"], log_evidence, atol=0.05)
    assert table["difference"].iloc[0] == 0
    np.testing.assert_allclose(table["difference"], table["elbo"] - table["elbo"].max())
    for name in methods:
        fit, row = fitted("conjugate", name), table.loc[name]
        assert row["verdict"] == fit.check().verdict
        assert row["khat"] == fit.check().khat
        assert row["elbo"] == fit.elbo.value
        assert row["seconds_compile"] + row["seconds_run"] == pytest.approx(fit.timings["total"])
        assert row["gradients"] == fit.timings["gradients"]


def test_models_of_the_same_data_by_their_evidence():
    data = conjugate_data()
    table = jn.compare({"narrow": jn.fit(narrow, data), "wide": fitted("conjugate")})
    assert list(table.index) == ["wide", "narrow"]
    marginal = 0.25 * np.eye(12) + 0.01 * data["x"] @ data["x"].T
    exact = dist.MultivariateNormal(np.zeros(12), marginal).log_prob(data["y"])
    assert table.loc["narrow", "elbo"] == pytest.approx(float(exact), abs=1e-3)


def test_a_renamed_outcome_is_the_same_data():
    def renamed(x, z):
        with numpyro.plate("feature", x.shape[1]):
            w = numpyro.sample("w", dist.Normal(0.0, 2.0))
        numpyro.sample("z", dist.Normal(x @ w, 0.5).to_event(1), obs=z)

    data = conjugate_data()
    fit = jn.fit(renamed, {"x": data["x"], "z": data["y"]}, "laplace")
    table = jn.compare({"a": fitted("conjugate"), "b": fit})
    assert abs(table["difference"]).max() < 1e-8


def test_other_values_are_refused():
    data = conjugate_data()
    other = jn.fit(conjugate, {**data, "y": data["y"] + 1e-9 + np.arange(12)}, "laplace")
    with pytest.raises(
        jn.OptionError, match=r"'a' and 'b' are of different data.*not comparable.*Site 'y': values differ"
    ):
        jn.compare({"a": fitted("conjugate"), "b": other})


def test_other_shapes_are_refused():
    other = jn.fit(conjugate, conjugate_data(rows=9), "laplace")
    with pytest.raises(jn.OptionError, match=r"\(12,\).*\(9,\)"):
        jn.compare({"a": fitted("conjugate"), "b": other})


def test_other_models_of_other_data_are_refused():
    with pytest.raises(jn.OptionError, match="'conjugate' and 'logistic' are of different data"):
        jn.compare({"conjugate": fitted("conjugate"), "logistic": fitted("logistic")})


def test_other_covariates_are_the_same_data():
    """The bound is on log p(y | x): another design is another model."""
    data = logistic_data()
    fit = jn.fit(logistic, {**data, "x": data["x"][:, :2]}, "laplace")
    assert set(jn.compare({"two": fit, "three": fitted("logistic")}).index) == {"two", "three"}


def test_parametrisations_of_one_model_agree():
    table = jn.compare({"non-centred": fitted("schools"), "centred": fitted("schools_centred")})
    assert table.loc["non-centred", "elbo"] > table.loc["centred", "elbo"]
    assert "untrusted" in set(table["verdict"]) or "usable" in set(table["verdict"])
    assert schools.__name__ == "schools"
    assert set(SCHOOLS) == {"sigma", "y"}


def test_log_densities_by_the_arrays_they_share():
    mean, _, precision = gaussian(3, 0.5)
    first = jn.fit(quadratic_model(3), {"mean": mean, "precision": precision}, "laplace")
    same = jn.fit(quadratic_model(3), {"mean": mean, "precision": precision}, "auto")
    other = jn.fit(quadratic_model(3), {"mean": mean + 1, "precision": precision}, "laplace")
    assert abs(jn.compare({"a": first, "b": same})["difference"]).max() < 1e-8
    with pytest.raises(jn.OptionError, match="Data key 'mean': values differ"):
        jn.compare({"a": first, "b": other})


def test_loaded_fits(tmp_path):
    fitted("conjugate").save(tmp_path / "a.jn")
    loaded = jn.load(tmp_path / "a.jn")
    table = jn.compare({"now": fitted("conjugate", "mean_field"), "before": loaded})
    assert table.loc["before", "elbo"] == fitted("conjugate").elbo.value
    fitted("logistic").save(tmp_path / "b.jn")
    with pytest.raises(jn.OptionError, match="different data"):
        jn.compare({"a": loaded, "b": jn.load(tmp_path / "b.jn")})


@pytest.mark.parametrize("fits", [{}, None, [1, 2], "fits"])
def test_no_fits(fits):
    with pytest.raises(jn.OptionError, match="mapping of names to fits"):
        jn.compare(fits)


def test_not_a_fit():
    with pytest.raises(jn.OptionError, match="'b' is a str, not a fit"):
        jn.compare({"a": fitted("conjugate"), "b": "fit.jn"})


def test_one_fit_is_a_table_of_one_row():
    assert len(jn.compare({"a": fitted("conjugate")})) == 1
