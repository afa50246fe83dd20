"""Full rank by natural gradients, low rank and the other families by stochastic ascent."""

import functools

import numpy as np
import pytest

import jensen as jn
from jensen._bounds import ELBO
from jensen._estimators import StickingTheLanding
from jensen._families import FullRank, LowRank, MeanField
from jensen._gaussian import natural_gaussian
from jensen._model import build
from tests.posteriors import (
    banana,
    conjugate,
    conjugate_answer,
    conjugate_data,
    fitted,
    gaussian,
    logistic,
    logistic_data,
    quadratic_model,
)


def run(generator):
    items = []
    try:
        while True:
            items.append(next(generator))
    except StopIteration as stop:
        return stop.value, items


def test_a_gaussian_posterior_is_reached_in_few_steps_from_anywhere_near():
    mean, covariance, precision = gaussian(6, 0.9)
    target = build(quadratic_model(6), {"mean": mean, "precision": precision}, "double")
    sd = np.sqrt(np.diag(covariance))
    start = FullRank.from_factor(mean + sd, 1.2 * np.linalg.cholesky(covariance))
    fit, items = run(natural_gaussian.ascend(target, start, 0))
    after_one = items[0].q
    # S ← I - G + ½G², eigenvalues of G being 1 - 1.44 = -0.44: 1.44 becomes 1.44 + 0.0968, an error of third order
    assert np.abs((after_one.loc - mean) / sd).max() < 0.15
    assert fit.converged
    assert len(items) < 10
    assert np.abs((fit.q.loc - mean) / sd).max() < 1e-9
    assert np.abs((fit.q.covariance() - covariance) / np.outer(sd, sd)).max() < 1e-5


def test_the_bound_is_stationary_at_the_answer():
    """Moving any mean by 0.3 sd or any scale by 30 % lowers the bound, measured on common draws."""
    fit = fitted("logistic", "full_rank")
    mean, factor = np.asarray(fit.q.loc, float), fit.q.factor()
    noise = np.random.default_rng(0).normal(size=(20_000, 3))
    noise = np.concatenate([noise, -noise])

    def bound(q):
        points = q.host_transform(noise)
        return float(np.mean(fit.target.value(points) - q.host_log_prob(points)))

    best = bound(fit.q)
    for direction in np.eye(3):
        for sign in (0.3, -0.3):
            assert bound(FullRank.from_factor(mean + sign * factor @ direction, factor)) < best
            assert bound(FullRank.from_factor(mean, factor @ np.diag(1 + sign * direction))) < best


def test_full_rank_beats_the_curvature_on_a_banana():
    by_curvature, by_bound = jn.fit(banana, method="laplace"), jn.fit(banana, method=jn.advi(family="full_rank"))
    assert by_bound.elbo.value > by_curvature.elbo.value + 0.05
    assert by_bound.converged


@functools.cache
def stochastic(family, rank=None):
    method = jn.advi(family=family, engine="stochastic", rank=rank)
    return jn.fit(conjugate, conjugate_data(), method)


@pytest.mark.parametrize(
    ("family", "kind"), [("mean_field", MeanField), ("full_rank", FullRank), ("low_rank", LowRank)]
)
def test_stochastic_engine_reaches_the_known_optimum(family, kind):
    """Means within 0.1 sd and sds within 10 % of the family's exact optimum."""
    mean, covariance, log_evidence = conjugate_answer(**conjugate_data())
    fit = stochastic(family)
    assert isinstance(fit.q, kind)
    sd = np.sqrt(np.diag(covariance))
    expected = np.diag(np.linalg.inv(covariance)) ** -0.5 if family == "mean_field" else sd
    assert np.abs((np.asarray(fit.q.loc) - mean) / sd).max() < 0.1
    assert np.abs(np.log(fit.q.scales() / expected)).max() < 0.1
    assert fit.elbo.value <= log_evidence + 3 * fit.elbo.se + 1e-6
    assert fit.converged
    assert "agree to" in fit.status


def test_low_rank_of_rank_d_minus_1_is_full_rank():
    _, covariance, log_evidence = conjugate_answer(**conjugate_data())
    fit = jn.fit(conjugate, conjugate_data(), jn.advi(family="low_rank", rank=2))
    assert fit.q.rank == 2
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((fit.q.covariance() - covariance) / np.outer(sd, sd)).max() < 0.15
    assert fit.elbo.value == pytest.approx(log_evidence, abs=0.02)


def test_more_rank_never_hurts_and_rank_1_of_equal_correlations_is_enough():
    """Equal correlations are one common factor plus independent noise: rank one is exact, mean field loses nats."""
    dim, correlation = 6, 0.8
    mean, covariance, precision = gaussian(dim, correlation)
    log_evidence = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    data = {"mean": mean, "precision": precision}
    fit = jn.fit(quadratic_model(dim), data, jn.advi(family="low_rank", rank=1))
    assert fit.elbo.value == pytest.approx(log_evidence, abs=0.05)
    loss = 0.5 * (np.log(np.diag(precision)).sum() + np.linalg.slogdet(covariance)[1])  # mean field's exact gap
    flat = jn.fit(quadratic_model(dim), data, "advi")
    assert log_evidence - flat.elbo.value == pytest.approx(loss, abs=1e-6)
    assert fit.elbo.value > flat.elbo.value + 1


def test_rank_is_at_most_the_dimension():
    assert stochastic("low_rank", rank=50).q.rank == 3


def test_the_engine_takes_back_steps_that_are_not_finite():
    import jax.numpy as jnp

    from jensen._ascent import stochastic as engine

    model = jn.LogDensity(
        lambda z: jnp.where(jnp.abs(z["x"]) < 2.5, -0.5 * z["x"] ** 2, jnp.nan) + 0.0 * z["x"], {"x": ()}
    )
    target = build(model, {}, "double")
    start = MeanField(np.zeros(1), np.zeros(1))
    fit, items = run(engine.ascend(target, start, ELBO(), StickingTheLanding(8), 0, max_chunks=3, chunk=100))
    assert fit.rejected > 0
    assert np.isfinite(fit.q.loc).all()
    assert np.isfinite(fit.q.scales()).all()
    assert all(np.isfinite(item.q.loc).all() for item in items)


def test_same_answer_from_both_engines():
    slow = jn.fit(logistic, logistic_data(), jn.advi(family="full_rank", engine="stochastic"))
    fast = fitted("logistic", "full_rank")
    assert np.abs((np.asarray(slow.q.loc) - fast.q.loc) / fast.q.scales()).max() < 0.1
    assert np.abs(np.log(slow.q.scales() / fast.q.scales())).max() < 0.1
