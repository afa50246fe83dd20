"""Draws, the summary table and ArviZ data: names, dims, coords, and the pointwise log likelihood."""

import functools

import arviz_stats
import jax
import numpy as np
import numpyro.infer.util
import pytest

import jensen as jn
from tests.posteriors import MODELS, SCHOOLS, conjugate_answer, conjugate_data, fitted
from tests.zoo import MODELS as ZOO


@pytest.fixture(scope="module")
def tree():
    return fitted("counts").to_arviz(200)


def test_groups_dims_and_coords(tree):
    posterior = tree["posterior"]
    assert dict(posterior.sizes) == {"chain": 1, "draw": 200, "group": 6}
    assert posterior["effect"].dims == ("chain", "draw", "group")
    assert posterior["slope"].dims == ("chain", "draw")
    assert set(posterior.data_vars) == {"slope", "tau", "effect", "rate_ratio"}
    np.testing.assert_array_equal(posterior.coords["group"], np.arange(6))
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "row")
    assert tree["observed_data"]["y"].dims == ("row",)
    np.testing.assert_array_equal(tree["observed_data"]["y"], MODELS["counts"][1]["y"])


def test_draws_are_those_of_sample(tree):
    draws = fitted("counts").sample(200)
    for name, values in draws.items():
        np.testing.assert_array_equal(tree["posterior"][name].values[0], values)


def test_attributes_carry_the_verdict(tree):
    fit = fitted("counts")
    attributes = tree["posterior"].attrs
    assert attributes["inference_library"] == "jensen"
    assert attributes["verdict"] == fit.check().verdict
    assert attributes["khat"] == fit.check().khat
    assert attributes["elbo"] == fit.elbo.value
    assert attributes["method"] == "auto"


def test_log_likelihood_is_numpyros(tree):
    program, data = MODELS["counts"]
    draws = fitted("counts").sample(200)
    with jax.enable_x64(True):
        expected = numpyro.infer.util.log_likelihood(
            program, {k: v for k, v in draws.items() if k != "rate_ratio"}, **data
        )
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0], expected["y"], atol=1e-9)


ZOO_CASES = [
    "nested_plates",
    "crossed_plates",
    "to_event_and_expand",
    "scan_positive",
    "multivariate_obs",
    "masked_nan",
]


@functools.cache
def zoo(name):
    return jn.fit(ZOO[name].model, ZOO[name].data, "laplace")


@pytest.mark.parametrize("name", [*ZOO_CASES, "observed_first", "random_walk", "simplex_plate"])
def test_log_likelihood_and_dims_over_the_zoo(name):
    entry = ZOO[name]
    fit = zoo(name)
    tree = fit.to_arviz(5)
    draws = fit.sample(5)
    latents = {site.name: draws[site.name] for site in fit.structure.latents}
    with jax.enable_x64(True):
        expected = numpyro.infer.util.log_likelihood(entry.model, latents, **entry.data)
    assert set(tree["log_likelihood"].data_vars) == {site.name for site in fit.structure.observed}
    for site in fit.structure.observed:
        found = tree["log_likelihood"][site.name].values[0]
        np.testing.assert_allclose(found, np.asarray(expected[site.name]), atol=1e-8)
    for site in fit.structure.latents:
        assert tree["posterior"][site.name].dims[2:] == site.dims


def test_dims_of_nested_plates():
    tree = zoo("nested_plates").to_arviz(5)
    assert tree["posterior"]["b"].dims == ("chain", "draw", "group", "row")
    assert tree["posterior"]["a"].dims[2] == "group"
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "group", "row")


def test_log_likelihood_on_request_only():
    tree = fitted("logistic").to_arviz(10, log_likelihood=False)
    assert "log_likelihood" not in tree.children
    assert "observed_data" in tree.children


def test_a_log_density_has_a_posterior_only():
    tree = fitted("banana").to_arviz(10)
    assert list(tree.children) == ["posterior"]


def test_arviz_can_summarise_and_compare(tree):
    table = arviz_stats.summary(tree, var_names=["slope", "effect"], round_to="none")
    assert len(table) == 7
    loo = arviz_stats.loo(fitted("counts").to_arviz(500))
    pointwise = fitted("counts").to_arviz(500)["log_likelihood"]["y"].values[0]
    assert loo.elpd < np.log(np.exp(pointwise).mean(axis=0)).sum()  # leaving out costs
    assert loo.elpd > np.log(np.exp(pointwise).mean(axis=0)).sum() - 30


# ---- sample and summary ------------------------------------


def test_sample_shapes_types_and_supports():
    draws = fitted("counts").sample(37)
    assert {k: v.shape for k, v in draws.items()} == {
        "slope": (37,),
        "tau": (37,),
        "effect": (37, 6),
        "rate_ratio": (37,),
    }
    assert all(v.dtype == np.float64 for v in draws.values())
    assert (draws["tau"] > 0).all()
    np.testing.assert_allclose(draws["rate_ratio"], np.exp(draws["slope"]))


def test_raw_draws_are_qs():
    """On the unconstrained space: mean within 5 standard errors and sd within 10 % of q's own, 4000 draws."""
    fit = fitted("banana")
    raw = fit.sample(4000, raw=True)
    q_mean, q_sd = np.asarray(fit.q.loc), fit.q.scales()
    for name, mean, sd in zip(("x", "y"), q_mean, q_sd, strict=True):
        assert abs(raw[name].mean() - mean) < 5 * sd / np.sqrt(4000)
        assert raw[name].std() == pytest.approx(sd, rel=0.1)
    corrected = fit.sample(4000)
    assert abs(corrected["y"].std() - np.sqrt(1.5)) < abs(raw["y"].std() - np.sqrt(1.5))


def test_summary_of_a_gaussian_in_closed_form():
    mean, covariance, _ = conjugate_answer(**conjugate_data())
    table = fitted("conjugate", "laplace").summary()
    sd = np.sqrt(np.diag(covariance))
    assert list(table.index) == ["w[0]", "w[1]", "w[2]"]
    assert list(table.columns) == ["mean", "sd", "q5", "median", "q95", "mcse_mean"]
    # 4096 quasi-random draws
    np.testing.assert_allclose((table["mean"] - mean) / sd, 0, atol=0.02)
    np.testing.assert_allclose(table["sd"] / sd, 1, atol=0.03)
    np.testing.assert_allclose((table["q5"] - mean) / sd, -1.645, atol=0.08)
    np.testing.assert_allclose((table["q95"] - mean) / sd, 1.645, atol=0.08)
    np.testing.assert_allclose((table["median"] - mean) / sd, 0, atol=0.05)
    np.testing.assert_allclose(table["mcse_mean"] / sd, 1 / 64, rtol=0.05)


def test_summary_of_a_corrected_fit_shows_qs_own_beside():
    fit = fitted("banana")
    assert fit.check().verdict == "usable"
    table = fit.summary()
    assert {"q_mean", "q_sd"} <= set(table.columns)
    assert table.loc["y", "mean"] == pytest.approx(0.5, abs=0.1)
    assert table.loc["y", "sd"] == pytest.approx(np.sqrt(1.5), rel=0.1)
    raw = fit.summary(raw=True)
    assert "q_sd" not in raw.columns
    np.testing.assert_allclose(raw["mean"], table["q_mean"])
    np.testing.assert_allclose(raw["sd"], table["q_sd"])


def test_summary_of_some_sites():
    table = fitted("counts").summary(["tau", "effect"])
    assert list(table.index) == ["tau", *(f"effect[{i}]" for i in range(6))]


def test_weighted_quantiles_by_hand():
    from jensen._verdict.table import _quantiles

    table, weights = np.array([[3.0], [1.0], [2.0], [4.0]]), np.array([0.1, 0.4, 0.4, 0.1])
    assert [q[0] for q in _quantiles(table, weights, (0.05, 0.5, 0.85, 0.95))] == [1.0, 2.0, 3.0, 4.0]


def test_schools_shrink():
    fit = fitted("schools")
    assert fit.to_arviz(50)["posterior"]["theta"].sizes["school"] == len(SCHOOLS["y"])
