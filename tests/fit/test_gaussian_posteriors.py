"""Gaussian posteriors are found exactly, whatever their dimension, units and correlation, with nothing to tune."""

import functools

import numpy as np
import pytest

import jensen as jn
from tests.posteriors import METHODS, gaussian, quadratic_model

SMALL = [(1, 0.0), (5, 0.9), (5, 0.99), (50, 0.0), (50, 0.99)]
EXACT = ("auto", "laplace", "full_rank")
GRID = [(dim, correlation, method) for dim, correlation in SMALL for method in EXACT]
GRID.append((200, 0.99, "auto"))
GRID += [pytest.param(200, 0.9, method, marks=pytest.mark.slow) for method in EXACT]
GRID += [pytest.param(200, 0.99, method, marks=pytest.mark.slow) for method in EXACT[1:]]


@functools.cache
def fitted(dim, correlation, method):
    mean, _, precision = gaussian(dim, correlation)
    return jn.fit(quadratic_model(dim), {"mean": mean, "precision": precision}, METHODS.get(method, method))


@pytest.mark.parametrize(("dim", "correlation", "method"), GRID)
def test_mean_and_covariance_are_exact(dim, correlation, method):
    mean, covariance, _ = gaussian(dim, correlation)
    fit = fitted(dim, correlation, method)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((fit.q.loc - mean) / sd).max() < 1e-6
    assert np.abs((fit.q.covariance() - covariance) / np.outer(sd, sd)).max() < 1e-6
    assert fit.converged
    assert fit.check().verdict == "trusted"


@pytest.mark.parametrize("method", EXACT)
def test_the_bound_is_the_evidence_with_no_noise(method):
    dim, correlation = 5, 0.99
    _, covariance, _ = gaussian(dim, correlation)
    fit = fitted(dim, correlation, method)
    log_evidence = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert fit.elbo.value == pytest.approx(log_evidence, abs=1e-8)
    assert fit.elbo.se < 1e-8
    evidence = fit.evidence()
    assert evidence.log_evidence == pytest.approx(log_evidence, abs=1e-8)
    assert all(bound == pytest.approx(log_evidence, abs=1e-6) for bound, _ in evidence.importance_weighted.values())


@pytest.mark.parametrize(("dim", "correlation"), [(1, 0.0), (5, 0.9), (5, 0.99), (50, 0.9)])
def test_mean_field_has_the_exact_mean_and_linear_response(dim, correlation):
    mean, covariance, _ = gaussian(dim, correlation)
    fit = fitted(dim, correlation, "mean_field")
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((fit.q.loc - mean) / sd).max() < 1e-8
    assert np.abs((fit.outcome.linear_response - covariance) / np.outer(sd, sd)).max() < 1e-8
    assert fit.converged


@pytest.mark.parametrize(("dim", "correlation"), [(1, 0.0), (5, 0.9), (5, 0.99)])
def test_mean_field_sds_are_the_inverse_roots_of_the_precisions_diagonal(dim, correlation):
    _, _, precision = gaussian(dim, correlation)
    fit = fitted(dim, correlation, "mean_field")
    np.testing.assert_allclose(fit.q.log_scale, -0.5 * np.log(np.diag(precision)), atol=1e-8)


def test_two_dimensional_mean_field_variances():
    """Unit variances and correlation r: the mean-field variances are 1 - r² (Bishop 2006, section 10.1.2)."""
    r = 0.8
    precision = np.linalg.inv(np.array([[1.0, r], [r, 1.0]]))
    fit = jn.fit(quadratic_model(2), {"mean": np.zeros(2), "precision": precision}, "advi")
    np.testing.assert_allclose(fit.q.scales() ** 2, 1 - r**2, rtol=1e-9)
    np.testing.assert_allclose(fit.outcome.linear_response, [[1.0, r], [r, 1.0]], atol=1e-9)
    assert fit.elbo.value == pytest.approx(np.log(2 * np.pi) + np.log(1 - r**2), abs=1e-9)


def test_independent_coordinates_need_no_more_than_mean_field():
    fit = fitted(5, 0.0, "mean_field")
    _, covariance, _ = gaussian(5, 0.0)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((fit.q.covariance() - covariance) / np.outer(sd, sd)).max() < 1e-8
    assert fit.check().verdict == "trusted"


@pytest.mark.parametrize("correlation", [0.9, 0.99])
def test_mean_field_of_a_correlated_posterior_is_not_called_trusted(correlation):
    fit = fitted(5, correlation, "mean_field")
    assert fit.check().verdict == "usable"
    mean, covariance, _ = gaussian(5, correlation)
    sd = np.sqrt(np.diag(covariance))
    draws = fit.sample(4000)["x"]
    # 4000 resampled draws: a 5-standard-error band for means and sds (false alarm below 1e-5 over ten numbers)
    assert np.abs((draws.mean(axis=0) - mean) / sd).max() < 0.2
    assert np.abs(np.log(draws.std(axis=0) / sd)).max() < 0.2
    raw = fit.sample(4000, raw=True)["x"].std(axis=0) / sd
    assert raw.max() < 0.6  # what the correction mends


def test_a_wrong_precision_would_be_noticed():
    """The planted bug: one off-diagonal entry of the covariance off by a millionth of a unit correlation."""
    mean, covariance, _ = gaussian(5, 0.9)
    fit = fitted(5, 0.9, "auto")
    sd = np.sqrt(np.diag(covariance))
    wrong = covariance + 2e-6 * np.outer(sd, sd)
    assert np.abs((fit.q.covariance() - wrong) / np.outer(sd, sd)).max() > 1e-6
    assert np.abs((fit.q.loc - (mean + 2e-6 * sd)) / sd).max() > 1e-6
