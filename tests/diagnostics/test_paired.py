"""Moments of q against corrected ones on the same draws: their errors, and what other draws may contradict."""

import jax.numpy as jnp
import numpy as np
import pytest

import jensen as jn
from jensen._core import Outcome
from jensen._families import FullRank
from jensen._fit.answers import answer_for
from jensen._model import build
from jensen._verdict.checks.motion import LEVEL
from jensen._verdict.importance import draw_pool, weigh
from jensen._verdict.moments import compare
from jensen._verdict.paired import paired

SHIFT, STRETCH = 0.05, 1.04
"""p is normal with this mean and sd, q is standard normal."""


def log_ratio(x):
    return -0.5 * ((x - SHIFT) / STRETCH) ** 2 + 0.5 * x**2


def found(seed, count=128):
    x = np.random.default_rng(seed).normal(size=(count, 1))
    weights = np.exp(log_ratio(x[:, 0]))
    return paired(x, weights / weights.sum())


def test_few_draws_tell_small_differences_and_their_error():
    """128 draws alone would know a mean to 0.09 sd and a log sd to 0.06; on the same draws the error is a seventh."""
    many = [found(seed) for seed in range(1000)]
    signed = np.array([one.log_ratio[0] for one in many])
    assert np.mean([one.distance[0] for one in many]) == pytest.approx(SHIFT / STRETCH, rel=0.1)
    assert signed.mean() == pytest.approx(-np.log(STRETCH), rel=0.1)
    assert signed.std() == pytest.approx(np.mean([one.ratio_error[0] ** 2 for one in many]) ** 0.5, rel=0.2)
    error = np.std([one.distance[0] for one in many])
    assert error == pytest.approx(np.mean([one.error[0] ** 2 for one in many]) ** 0.5, rel=0.2)
    assert error < 0.15 * 128**-0.5
    assert signed.std() < 0.2 * 256**-0.5


def pooled(seed, far):
    """Pool draws of one latent: q, then wider ones; with `far` the wider ones know of mass that q does not reach."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=500), 3.0 * rng.normal(size=500)])
    log_q = -0.5 * x**2
    wide = -0.5 * (x / 3.0) ** 2 - np.log(3.0)
    log_joint = log_ratio(x) + log_q
    if far:
        log_joint = np.logaddexp(log_joint, np.log(0.1) - 0.5 * ((x - 6.0) / 0.5) ** 2)
    return weigh(x[:, None], log_joint, log_q, np.logaddexp(log_q, wide) - np.log(2.0))


def test_what_other_draws_contradict_is_not_taken():
    pool = pooled(0, far=False)
    near = {"x": pool.points[:, 0]}
    own = pool.own_weights
    alone, together = compare(near, pool.weights, near), compare(near, pool.weights, near, own)
    assert together.noise < 0.2 * alone.noise
    assert together.spread < alone.spread
    assert together.mean == pytest.approx(SHIFT, abs=0.02)
    pool = pooled(0, far=True)
    wider = {"x": pool.points[:, 0]}
    assert compare(wider, pool.weights, wider, own) == compare(wider, pool.weights, wider)
    assert compare(wider, pool.weights, wider, own).mean > 0.1


def gaussian_target(dim):
    return build(jn.LogDensity(lambda z: -0.5 * jnp.sum(z["x"] ** 2), {"x": dim}), {}, "double")


@pytest.mark.parametrize(("scale", "moved"), [(1.01, False), (1.2, True)])
def test_nothing_is_moved_where_q_is_as_good_as_the_posterior(scale, moved):
    """KL(p, q) + KL(q, p) of normals with sds 1 and s is (s - 1 / s)² / 2 for each coordinate, below (s² - 1)² / 2."""
    target, q = gaussian_target(2), FullRank.from_factor(np.zeros(2), scale * np.eye(2))
    pool = draw_pool(target, q, 1)
    assert pool.divergence == pytest.approx((scale**2 - 1) ** 2, rel=0.1)
    answer = answer_for(target, Outcome(q, True, ""), 0)
    before = target.gradients + target.values
    report = answer.judge(pool, answer.draws_of(pool), 2)
    titles = [check.name for check in report.checks]
    assert ("Hamiltonian acceptance" in titles) == moved
    assert (target.gradients + target.values - before > 5000) == moved
    assert not moved or report.verdict != "trusted"


def test_weights_that_are_all_on_one_draw_are_not_level():
    """Under them log p - log q does not vary at all."""
    x = np.random.default_rng(0).normal(size=200)
    log_q = -0.5 * x**2
    joint = log_q.copy()
    joint[150] += 60.0
    assert weigh(x[:, None], joint, log_q, log_q).divergence > LEVEL
    joint[:] = -np.inf
    assert weigh(x[:, None], joint, log_q, log_q).divergence == np.inf
