"""The importance pool: known weights, Pareto k against closed forms, the sign of PSIS, resampling, the evidence."""

import functools

import numpy as np
import pytest
from scipy import stats

import jensen as jn
from jensen._families import FullRank, LowRank, MeanField
from jensen._families.heavier import student_log_prob
from jensen._verdict.importance import Pool, draw_pool, even, hopeless, smooth, weighted_moments
from tests.posteriors import conjugate_answer, conjugate_data, fitted, gaussian, quadratic_model


@functools.cache
def mean_field(correlation, dim=2):
    """(fit, precision) of mean field on a unit-variance Gaussian with equal correlations."""
    precision = np.linalg.inv((1 - correlation) * np.eye(dim) + correlation)
    return jn.fit(quadratic_model(dim), {"mean": np.zeros(dim), "precision": precision}, "advi"), precision


# ---- Pareto k ------------------------------------


def test_pareto_k_of_pareto_weights():
    """log w = k E, E ~ Exp(1), has a Pareto tail of shape k. S = 1e5: error below 0.1 for the fixed seeds used."""
    rng = np.random.default_rng(0)
    exponentials = rng.exponential(size=100_000)
    for k in (0.2, 0.5, 0.8):
        assert smooth(k * exponentials)[1] == pytest.approx(k, abs=0.1)


def test_the_sign_of_psis():
    """Planted bug: minus log weights are as calm as can be where the weights themselves have an infinite mean."""
    heavy = 1.2 * np.random.default_rng(1).exponential(size=20_000)
    assert smooth(heavy)[1] > 1.0
    assert smooth(-heavy)[1] < 0.2


def test_one_draw_in_another_mode_is_not_smoothed_away():
    """Even weights but for one that holds a third of the mass: what a pool sees of a far mode."""
    logs = 0.1 * np.random.default_rng(1).normal(size=8000)
    assert smooth(logs)[1] < 0.7
    assert even(logs)
    logs[77] = np.log(4000.0)
    assert smooth(logs)[1] >= 1.0
    assert not even(logs)


@pytest.mark.parametrize(("sigma", "largest", "wanted"), [(0.6, 0.0, True), (0.6, 1 / 300, False), (0.9, 0.0, False)])
def test_weights_that_no_draw_decides_are_even(sigma, largest, wanted):
    """Log-normal weights, of which exp(-σ²) are effective draws: 70 % will do where none holds 1 / 400 of all."""
    logs = stats.norm.ppf((np.arange(8192) + 0.5) / 8192) * sigma
    if largest:
        logs[0] = np.log(largest / (1.0 - largest)) + np.logaddexp.reduce(logs[1:])
    assert even(logs) == wanted


def test_smoothing_keeps_the_order_and_moves_only_the_tail():
    logs = 0.6 * np.random.default_rng(2).exponential(size=5000)
    weights, _ = smooth(logs)
    assert weights.sum() == pytest.approx(1)
    raw = np.exp(logs) / np.exp(logs).sum()
    order = np.argsort(logs)
    assert (np.diff(weights[order]) >= -1e-15).all()
    body = order[:-300]
    ratios = weights[body] / raw[body]
    np.testing.assert_allclose(ratios, ratios[0])


def test_weights_do_not_depend_on_a_constant():
    logs = 0.5 * np.random.default_rng(3).exponential(size=2000)
    first, k1 = smooth(logs)
    second, k2 = smooth(logs - 12345.0)
    np.testing.assert_allclose(first, second, rtol=1e-8)
    assert k1 == pytest.approx(k2, abs=1e-6)


def test_degenerate_weights():
    n = 1000
    even, k = smooth(np.zeros(n))
    np.testing.assert_allclose(even, 1 / n)
    assert k < 0.5
    for bad in (np.full(n, -np.inf), np.r_[np.zeros(10), np.full(n - 10, -np.inf)], np.r_[np.inf, np.zeros(n - 1)]):
        weights, k = smooth(bad)
        assert k == np.inf
        assert np.isfinite(weights).all()
    some = np.random.default_rng(0).normal(size=n)
    some[:100] = -np.inf
    weights, k = smooth(some)
    assert (weights[:100] == 0).all()
    assert weights.sum() == pytest.approx(1)
    assert np.isfinite(k)


@pytest.mark.parametrize("correlation", [0.5, 0.9, 0.95])
def test_pareto_k_of_mean_field_on_a_gaussian(correlation):
    """k = 1 - λ_min(diag(P)^-½ P diag(P)^-½), here the correlation; k̂ at 4096 draws is biased low (METHODS 1.18)."""
    fit, precision = mean_field(correlation)
    scale = np.diag(precision) ** -0.5
    exact = 1 - np.linalg.eigvalsh(precision * np.outer(scale, scale)).min()
    assert exact == pytest.approx(correlation)
    assert exact - 0.3 < fit.check().khat < exact + 0.1
    assert fit.check().khat_interval[0] < fit.check().khat < fit.check().khat_interval[1]


def test_pareto_k_rises_with_the_correlation():
    ks = [mean_field(correlation)[0].check().khat for correlation in (0.0, 0.5, 0.9)]
    assert ks == sorted(ks)


# ---- the pool ------------------------------------


@pytest.mark.parametrize("kind", [FullRank, MeanField, LowRank])
def test_student_density_against_scipy(kind):
    rng = np.random.default_rng(5)
    root = np.tril(rng.normal(size=(3, 3))) + 2 * np.eye(3)
    q = {
        FullRank: FullRank.from_factor(rng.normal(size=3), root),
        MeanField: MeanField(rng.normal(size=3), rng.normal(size=3)),
        LowRank: LowRank(rng.normal(size=3), rng.normal(size=3), rng.normal(size=(3, 1))),
    }[kind]
    points = rng.normal(size=(7, 3)) * 3
    expected = stats.multivariate_t(np.asarray(q.loc), q.covariance(), df=4).logpdf(points)
    np.testing.assert_allclose(student_log_prob(q, points), expected, atol=1e-10)


def test_the_proposals_are_what_they_are_said_to_be():
    """First half N(m, Σ), second half t₄: sds within 3 %, interquartile ranges within 5 % (4096 quasi-random draws)."""
    fit = fitted("conjugate", "laplace")
    pool, sd = fit.pool, fit.q.scales()
    own, heavy = ((pool.points[part] - fit.q.loc) / sd for part in (slice(pool.half), slice(pool.half, None)))
    np.testing.assert_allclose(own.std(axis=0), 1, rtol=0.03)
    low, high = np.quantile(heavy, [0.25, 0.75], axis=0)
    np.testing.assert_allclose(high - low, 2 * stats.t(4).ppf(0.75), rtol=0.05)
    balance = np.logaddexp(pool.log_q, student_log_prob(fit.q, pool.points)) - np.log(2)
    np.testing.assert_allclose(pool.log_proposal, balance)
    np.testing.assert_allclose(pool.log_joint, fit.target.value(pool.points))


def test_corrected_moments_are_the_posteriors():
    """Mean field at correlation 0.9, corrected: means within 0.1 sd, sds within 10 % (ESS > 1000)."""
    fit, _ = mean_field(0.9)
    assert fit.pool.ess > 1000
    mean, sd, error = weighted_moments(fit.pool.points, fit.pool.weights)
    assert np.abs(mean).max() < 0.1
    np.testing.assert_allclose(sd, 1, rtol=0.1)
    assert (error < 0.05).all()
    assert fit.pool.points[: fit.pool.half].std(axis=0).max() < 0.5  # q's own


def test_resampling_is_in_proportion_to_the_weights():
    fit, _ = mean_field(0.9)
    counts = np.bincount(fit.pool.resample(100_000, 0), minlength=len(fit.pool.weights))
    assert np.abs(counts - 100_000 * fit.pool.weights).max() <= 1.0 + 1e-6  # systematic: within one of the expectation
    assert not np.array_equal(fit.pool.resample(100, 0), np.sort(fit.pool.resample(100, 0)))


def test_weighted_moments_by_hand():
    values, weights = np.array([[0.0], [1.0], [3.0]]), np.array([0.5, 0.25, 0.25])
    mean, sd, error = weighted_moments(values, weights)
    assert mean[0] == pytest.approx(1.0)
    assert sd[0] == pytest.approx(np.sqrt(0.5 + 0.25 * 4))
    assert error[0] == pytest.approx(np.sqrt(0.25 * 1 + 0.0625 * 0 + 0.0625 * 4))


# ---- the evidence ------------------------------------


def test_evidence_is_exact_where_q_is():
    *_, log_evidence = conjugate_answer(**conjugate_data())
    evidence = fitted("conjugate").evidence()
    assert evidence.elbo == pytest.approx(log_evidence, abs=1e-8)
    assert evidence.log_evidence == pytest.approx(log_evidence, abs=1e-8)
    assert evidence.log_evidence_se < 1e-8


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_bounds_rise_to_the_evidence(correlation):
    fit, precision = mean_field(correlation)
    log_evidence = np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    evidence = fit.evidence()
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])  # mean field's exact KL
    assert evidence.elbo == pytest.approx(log_evidence - gap, abs=5 * evidence.elbo_se + 1e-3)
    bounds = [evidence.elbo, *(value for value, _ in evidence.importance_weighted.values())]
    assert bounds == sorted(bounds)
    # 4 standard errors, one-sided: false alarm 3e-5
    assert bounds[-1] < log_evidence + 4 * evidence.importance_weighted[100][1]
    assert evidence.log_evidence == pytest.approx(log_evidence, abs=4 * evidence.log_evidence_se)
    assert 0 < evidence.log_evidence_se < 0.05


def test_the_standard_error_of_the_evidence_covers():
    """Over 40 pools the 95 % interval covers at least 34 times: fewer has probability 2e-3 if the error were exact."""
    fit, precision = mean_field(0.9)
    log_evidence = np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    estimates = [draw_pool(fit.target, fit.q, 100 + seed).log_evidence for seed in range(40)]
    inside = sum(abs(value - log_evidence) < 1.96 * error for value, error in estimates)
    assert inside >= 34


def test_evidence_of_a_density_that_is_nowhere_finite():
    minus = np.full(50, -np.inf)
    pool = Pool(
        np.zeros((50, 1)), minus, np.zeros(50), np.zeros(50), np.full(50, 0.02), *_flags(np.inf, np.inf, np.inf)
    )
    assert pool.log_evidence == (-np.inf, np.inf)


def _flags(*khats):
    """Further fields of a pool, whatever they are, are false."""
    import dataclasses

    return (*khats, *[False] * (len(dataclasses.fields(Pool)) - 5 - len(khats)))


def test_evidence_prints_its_bounds():
    text = str(fitted("conjugate").evidence())
    assert "ELBO" in text
    assert "L_10 " in text
    assert "log p(x)" in text


def test_gaussian_units_do_not_matter():
    """The same posterior in other units has the same weights."""
    mean, covariance, precision = gaussian(3, 0.5)
    scale = np.array([1e-6, 1.0, 1e6])
    fits = [
        jn.fit(
            quadratic_model(3),
            {"mean": mean * s, "precision": precision / np.outer(s, s)},
            "laplace",
        )
        for s in (np.ones(3), scale)
    ]
    np.testing.assert_allclose(fits[0].q.covariance() * np.outer(scale, scale), fits[1].q.covariance(), rtol=1e-5)
    assert fits[0].check().verdict == fits[1].check().verdict == "trusted"
    del covariance


def test_weights_are_given_up_only_where_no_number_of_draws_would_do():
    """Normal log weights with an sd of 1.5 leave a tenth of the draws; with 5, exp(-25) of them."""
    rng = np.random.default_rng(0)
    assert not any(hopeless(1.5 * rng.normal(size=128)) for _ in range(200))
    assert all(hopeless(8.0 * rng.normal(size=128)) for _ in range(50))
    assert not hopeless(np.full(128, -np.inf))
    assert not hopeless(np.where(np.arange(128) < 70, -50.0, rng.normal(size=128)))  # what has no weight does no harm
