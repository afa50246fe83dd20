"""The default method: which Gaussian it keeps, what it says about other modes, and its path for many coordinates."""

import functools

import numpy as np
import pytest

import jensen as jn
from jensen._auto.stages import Stage, choose
from jensen._families import FullRank, LowRank, MeanField
from tests.posteriors import EFFECT, banana, fitted, gaussian, quadratic_model, two_modes


def test_it_is_never_below_the_curvature_nor_the_full_rank_fit():
    for name in ("logistic", "counts", "schools"):
        best = fitted(name).elbo
        for method in ("laplace", "full_rank", "mean_field"):
            other = fitted(name, method).elbo
            assert best.value > other.value - 4 * np.hypot(best.se, other.se) - 0.02


def test_stages_are_recorded_and_the_best_kept():
    fit = jn.fit(banana)
    rows = fit.outcome.stages
    assert sum(row["kept"] for row in rows) == 1
    kept = next(row for row in rows if row["kept"])
    assert kept["elbo"] == max(row["elbo"] for row in rows)
    assert kept["family"] in fit.status


def _stage(name, weights, q):
    stage = Stage(name, q)
    stage.log_weights = np.asarray(weights, float)
    return stage


def test_a_richer_family_must_gain_more_than_the_noise():
    rng = np.random.default_rng(0)
    poor, rich = MeanField(np.zeros(1), np.zeros(1)), FullRank.from_factor(np.zeros(1), np.eye(1))
    noise = rng.normal(size=100)
    base = np.concatenate([noise, noise])
    wobble = np.concatenate([rng.normal(size=100)] * 2)
    tiny = [_stage("a", base, poor), _stage("b", base + 0.05 + wobble, rich)]
    assert choose(tiny) == 0
    large = [_stage("a", base, poor), _stage("b", base + 0.5 + wobble, rich)]
    assert choose(large) == 1
    same = [_stage("a", base, poor), _stage("b", base + 0.05 + wobble, poor)]
    assert choose(same) == (1 if (0.05 + wobble).mean() > 0 else 0)
    broken = [_stage("a", base, poor), _stage("b", base + np.nan, rich)]
    assert choose(broken) == 0


@pytest.mark.parametrize(("weight", "distance"), [(0.5, 10.0), (0.8, 5.0), (0.95, 4.0)])
def test_the_share_of_other_modes_is_right(weight, distance):
    fit = jn.fit(two_modes, {"weight": weight, "distance": distance}, jn.auto(escalate=False))
    share = fit.outcome.certificate["share_elsewhere"]
    assert share == pytest.approx(1 - weight, abs=0.02)
    assert fit.q.loc[0] == pytest.approx(distance if weight > 0.5 else np.sign(fit.q.loc[0]) * distance, abs=0.01)
    report = fit.check()
    assert report.verdict == "untrusted"
    assert any("Other modes hold about" in reason for reason in report.reasons)


def test_one_mode_is_not_called_many():
    for name in ("logistic", "counts", "schools", "robust"):
        assert fitted(name).outcome.certificate["share_elsewhere"] < 0.01


# ---- beyond the dense limit ------------------------------------


@functools.cache
def large(correlation):
    mean, _, precision = gaussian(8, correlation)
    return jn.fit(quadratic_model(8), {"mean": mean, "precision": precision}, jn.auto(dense_limit=4, rank=3))


def test_beyond_the_dense_limit_low_rank_is_used_where_it_gains():
    fit = large(0.8)
    _, covariance, _ = gaussian(8, 0.8)
    assert isinstance(fit.q, LowRank)
    assert [row["family"] for row in fit.outcome.stages] == ["mean field", "low rank"]
    log_evidence = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert fit.elbo.value == pytest.approx(log_evidence, abs=0.1)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs(np.log(fit.q.scales() / sd)).max() < 0.15


def test_beyond_the_dense_limit_mean_field_is_kept_where_it_is_right():
    mean, covariance, _ = gaussian(8, 0.0)
    fit = large(0.0)
    assert isinstance(fit.q, MeanField)
    assert np.abs((np.asarray(fit.q.loc) - mean) / np.sqrt(np.diag(covariance))).max() < 0.1


def test_the_limit_itself_is_dense():
    mean, _, precision = gaussian(8, 0.5)
    fit = jn.fit(quadratic_model(8), {"mean": mean, "precision": precision}, jn.auto(dense_limit=8))
    assert isinstance(fit.q, FullRank)


def test_effects_of_the_schools_are_shrunk_between_the_data_and_their_mean():
    theta = fitted("schools").summary()["mean"].filter(like="theta").to_numpy()
    mu = fitted("schools").summary().loc["mu", "mean"]
    assert (np.abs(theta - mu) < np.abs(EFFECT - mu) + 0.5).all()
