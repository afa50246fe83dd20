"""Made-up q whose sds are known to be off: what is promised decides, not the draws."""

import jax.numpy as jnp
import numpy as np
import pytest

import jensen as jn
from jensen._core import Outcome
from jensen._families import FullRank
from jensen._fit.answers import answer_for
from jensen._model import build
from jensen._verdict.importance import draw_pool, joined
from jensen._verdict.moments import compare, compare_exact
from tests.posteriors import quadratic_model

TARGETS = {
    "normal": build(quadratic_model(2), {"mean": np.zeros(2), "precision": np.eye(2)}, "double"),
    "student": build(jn.LogDensity(lambda z: jnp.sum(-3.0 * jnp.log1p(z["x"] ** 2 / 5)), {"x": 2}), {}, "double"),
}
SD = {"normal": 1.0, "student": (5 / 3) ** 0.5}


def judged(name, ratio, seed):
    """The verdict on a Gaussian of `ratio` times the target's sds, and the size of the pool."""
    q = FullRank.from_factor(np.zeros(2), ratio * SD[name] * np.eye(2))
    answer = answer_for(TARGETS[name], Outcome(q, True, ""), seed)
    pool = answer.settled_pool(seed + 1)
    return answer.judge(pool, answer.draws_of(pool), seed + 2).verdict, len(pool.points)


@pytest.mark.parametrize(
    ("name", "ratio", "verdict"),
    [
        ("normal", 0.85, "usable"),
        ("normal", 0.9, "usable"),
        ("normal", 0.95, "trusted"),
        ("normal", 1.05, "trusted"),
        ("normal", 1.12, "usable"),
        ("student", 0.85, "usable"),
        ("student", 0.9, "usable"),
        ("student", 1.12, "usable"),
    ],
)
def test_seeds_agree_on_sds_that_are_off_by_a_known_factor(name, ratio, verdict):
    """*Trusted* is for ratios within 1/1.1 to 1.1."""
    assert {judged(name, ratio, 100 * seed)[0] for seed in range(3)} == {verdict}


def test_a_figure_near_its_limit_takes_more_draws_up_to_four_times_as_many():
    sizes = [judged("normal", ratio, 0)[1] for ratio in (0.8, 0.909, 1.0)]
    assert sizes[0] == sizes[2] == 8192
    assert 8192 < sizes[1] <= 4 * 8192


def test_pools_are_joined_half_by_half():
    target, q = TARGETS["normal"], FullRank.from_factor(np.zeros(2), 0.9 * np.eye(2))
    first, second = draw_pool(target, q, 1), draw_pool(target, q, 2)
    both = joined(first, second)
    assert len(both.points) == 2 * len(first.points)
    np.testing.assert_array_equal(
        both.log_ratios, np.concatenate([p.log_joint[: p.half] - p.log_q[: p.half] for p in (first, second)])
    )
    assert both.weights.sum() == pytest.approx(1.0)
    assert both.ess > 1.9 * min(first.ess, second.ess)


def test_an_sd_that_grows_with_the_draws_is_not_known():
    """The error of a normal's sd is 1/√(2n); a log-normal's of σ = 3 lies in draws that are hardly ever made."""
    rng = np.random.default_rng(0)
    weights = np.full(8192, 1 / 8192)
    normal, wide = rng.normal(size=8192), np.exp(3.0 * rng.normal(size=8192))
    assert 0.002 < compare({"x": normal}, weights, {"x"}).spread < 0.03
    result = compare({"x": normal, "wide": wide}, weights, {"x", "wide"})
    assert result.spread > 0.2
    assert result.spread_site == "wide"
    exact = compare_exact({"x": normal}, weights, {"x": (np.zeros(()), np.ones(()))}, {})
    assert exact.spread == pytest.approx(compare({"x": normal}, weights, {"x"}).spread)
