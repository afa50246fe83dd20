"""The verdict and its sentences, and what it is made of: Hamiltonian drift, and moments of q against corrected ones."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jensen as jn
from jensen._core import Certificate, Outcome
from jensen._families import FullRank, MeanField
from jensen._fit.answers import answer_for
from jensen._model import build
from jensen._verdict.check import as_dict, from_dict
from jensen._verdict.importance import draw_pool
from jensen._verdict.kinetic import drift
from jensen._verdict.moments import compare, flatten
from tests.posteriors import METHODS, cauchy, fitted, gaussian, quadratic_model


def judged(target, q, converged=True, certificate=None):
    outcome = Outcome(q, converged, "It stopped.", Certificate.of(certificate or {}))
    pool = draw_pool(target, q, 1)
    return answer_for(target, outcome, 0).judge(pool, target.constrain(pool.points), 2)


def normal_target(dim=2, correlation=0.0):
    precision = np.linalg.inv((1 - correlation) * np.eye(dim) + correlation)
    return build(quadratic_model(dim), {"mean": np.zeros(dim), "precision": precision}, "double")


# ---- q that is wrong in one way ------------------------------------


def test_the_exact_posterior_is_trusted():
    report = judged(normal_target(), FullRank.from_factor(np.zeros(2), np.eye(2)))
    assert report.verdict == "trusted"
    assert report.remedy == ""
    assert all(check.passed for check in report.checks)
    assert report.ess > 4000


@pytest.mark.parametrize(
    ("mean", "scale", "words"),
    [
        ([0.5, 0.0], [1.0, 1.0], "The mean of x[0] under q is 0.5"),
        ([0.0, -0.3], [1.0, 1.0], "The mean of x[1] under q is 0.3"),
        ([0.0, 0.0], [1.5, 1.0], "The sd of x[0] under q is 1.5 times"),
        ([0.0, 0.0], [1.0, 0.7], "The sd of x[1] under q is 0."),
    ],
)
def test_an_error_that_weights_mend_is_usable_and_named(mean, scale, words):
    report = judged(normal_target(), FullRank.from_factor(np.array(mean), np.diag(scale)))
    assert report.verdict == "usable"
    assert any(words in reason for reason in report.reasons), report.reasons
    assert any("Importance weights mend it" in reason for reason in report.reasons)
    assert "corrected by default" in report.remedy


@pytest.mark.parametrize(("mean", "scale"), [([8.0, 0.0], [1.0, 1.0]), ([0.0, 0.0], [0.05, 0.05])])
def test_an_error_beyond_mending_is_untrusted(mean, scale):
    report = judged(normal_target(), FullRank.from_factor(np.array(mean), np.diag(scale)))
    assert report.verdict == "untrusted"
    assert report.remedy


def test_an_optimiser_that_stopped_early_is_never_trusted():
    report = judged(normal_target(), FullRank.from_factor(np.zeros(2), np.eye(2)), converged=False)
    assert report.verdict != "trusted"
    assert any("did not certify its answer: It stopped." in reason for reason in report.reasons)


def test_other_modes_are_never_trusted():
    q = FullRank.from_factor(np.zeros(2), np.eye(2))
    report = judged(normal_target(), q, certificate={"share_elsewhere": 0.3})
    assert report.verdict == "untrusted"
    assert any("30%" in reason for reason in report.reasons)
    assert judged(normal_target(), q, certificate={"share_elsewhere": 0.001}).verdict == "trusted"


@pytest.mark.parametrize(("weight", "verdict"), [(0.995, "untrusted"), (0.9999, "trusted")])
def test_a_small_mode_counts_by_the_variance_it_adds(weight, verdict):
    """At 15 sd a mass of 0.005 doubles the variance (0.995 + 0.005 (1 + 225)); 0.0001 adds 2 %, one in the sd."""

    def density(z):
        near = jnp.log(weight) - 0.5 * z["x"] ** 2
        return jnp.logaddexp(near, jnp.log1p(-weight) - 0.5 * (z["x"] - 15.0) ** 2)

    assert jn.fit(jn.LogDensity(density, {"x": ()}), None, jn.auto(escalate=False)).check().verdict == verdict


# ---- posteriors that no Gaussian fits ------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["two_modes", "uneven_modes", "far_mode"])
def test_separated_modes_are_untrusted_and_named(name, method):
    report = fitted(name, method).check()
    assert report.verdict == "untrusted"
    assert any("Other modes" in reason for reason in report.reasons)
    assert "seeds" in report.remedy or "NUTS" in report.remedy


@pytest.mark.parametrize("method", ["gaussian", "laplace", "pathfinder", "full_rank"])
@pytest.mark.parametrize("name", ["funnel", "schools_centred", "ring", "sharp_banana"])
def test_hard_shapes_are_not_trusted(name, method):
    report = fitted(name, method).check()
    assert report.verdict != "trusted"
    assert report.remedy


def test_the_funnel_is_untrusted():
    assert fitted("funnel").check().verdict == "untrusted"


def test_a_variance_that_hangs_on_single_draws_is_unknown():
    """Terms of a log-normal's variance have Pareto k̂ near one at any number of draws; those of a normal below 0.3."""
    rng = np.random.default_rng(0)
    draws = {"wide": np.exp(3.0 * rng.normal(size=4000)), "x": rng.normal(size=4000)}
    weights = np.full(4000, 1 / 4000)
    assert compare(draws, weights, draws).tail > 0.7
    assert compare(draws, weights, draws).tail_site == "wide"
    assert compare(draws, weights, {"x"}).tail == 0.0  # one that is computed, an indicator say, does not count


@pytest.mark.parametrize("method", METHODS)
def test_tails_without_moments_are_not_trusted(method):
    report = jn.fit(cauchy, method=METHODS[method]).check()
    assert report.verdict != "trusted"
    assert report.khat > 0.5


# ---- the report ------------------------------------


def test_a_report_prints_its_reasons_and_checks():
    report = fitted("banana").check()
    text = str(report)
    assert text.startswith("Verdict: usable with importance weights")
    for reason in report.reasons:
        assert reason in text
    assert text.count("\n") >= len(report.checks)
    assert " NO " in text or "\n  NO" in text
    assert repr(report) == text


def test_sentences_are_sentences():
    for name in ("banana", "funnel", "two_modes", "cauchy", "conjugate"):
        report = fitted(name).check()
        for sentence in (*report.reasons, *([report.remedy] if report.remedy else [])):
            assert sentence[0].isupper() or sentence[0].isdigit() or sentence.startswith("q ")
            assert sentence.endswith(".")
            assert "nan" not in sentence


def test_checking_twice_costs_once():
    fit = jn.fit(*_conjugate(), "laplace")
    first = fit.check()
    gradients = fit.target.gradients
    assert fit.check() is first
    assert fit.target.gradients == gradients


def _conjugate():
    from tests.posteriors import conjugate, conjugate_data

    return conjugate, conjugate_data()


def test_as_dict_and_back():
    import json

    report = fitted("banana").check()
    again = from_dict(json.loads(json.dumps(as_dict(report), default=float)))
    assert again == report


# ---- the Hamiltonian test ------------------------------------


def drifted(points, target, seed=0):
    """The test as the verdict uses it: mean and covariance are the draws' own."""
    factor = np.linalg.cholesky(np.atleast_2d(np.cov(points.T)))
    return drift(target, points, points.mean(axis=0), factor, seed)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_posterior_draws_do_not_drift(correlation):
    """Twenty sets of 256 exact draws: the threshold of 4 standard errors is crossed with probability below 1e-2."""
    target = normal_target(2, correlation)
    root = np.linalg.cholesky((1 - correlation) * np.eye(2) + correlation)
    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(256, 2)) @ root.T
        result = drifted(points, target, seed)
        assert result.shift < 0.15
        assert result.spread < 0.3
        assert result.acceptance > 0.9


@pytest.mark.parametrize("offset", [0.5, 1.0, -1.0])
def test_draws_from_the_wrong_place_move_back(offset):
    """One transition of unit length turns a Gaussian by one radian: a shift of (1 - cos 1) = 0.46 of the offset."""
    points = np.random.default_rng(0).normal(size=(1024, 2)) + np.array([0.0, offset])
    result = drifted(points, normal_target())
    assert result.coordinate == 1
    assert result.shift == pytest.approx(0.46 * abs(offset), abs=0.12)


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5])
def test_draws_that_are_too_narrow_or_too_wide_change_their_spread(scale):
    points = scale * np.random.default_rng(0).normal(size=(1024, 2))
    result = drifted(points, normal_target())
    assert result.spread > 0.1
    assert result.shift < 0.1


def test_a_wild_density_is_not_accepted():
    target = build(jn.LogDensity(lambda z: -1e6 * jnp.sum(z["x"] ** 4), {"x": 2}), {}, "double")
    points = np.random.default_rng(0).normal(size=(64, 2))
    assert drifted(points, target).acceptance < 0.3


def test_walls_and_overflow_are_survived():
    target = build(jn.LogDensity(lambda z: jnp.where(z["x"] > 0, -jnp.exp(z["x"]), -jnp.inf), {"x": ()}), {}, "double")
    result = drifted(np.abs(np.random.default_rng(0).normal(size=(64, 1))), target)
    assert np.isfinite([result.shift, result.spread, result.acceptance]).all()


# ---- moments ------------------------------------


def test_flatten_names_every_scalar():
    table, names = flatten({"a": np.zeros((5,)), "b": np.ones((5, 2, 2))})
    assert names == ["a", "b[0,0]", "b[0,1]", "b[1,0]", "b[1,1]"]
    assert table.shape == (5, 5)


def test_agreement_by_hand():
    """First half: mean 0 and sd 1; all weight on the second half: mean 1 and sd 2."""
    signs = np.tile([1.0, -1.0], 500)
    draws = {"x": np.concatenate([signs, 1.0 + 2.0 * signs]), "constant": np.ones(2000)}
    weights = np.concatenate([np.zeros(1000), np.full(1000, 1e-3)])
    result = compare(draws, weights, draws)
    assert result.mean == pytest.approx(0.5)
    assert result.ratio == pytest.approx(0.5)
    assert result.site == "x"
    assert result.error == pytest.approx(1000**-0.5)
    assert result.halves < 0.2


def test_constants_only():
    result = compare({"x": np.ones(100)}, np.full(100, 0.01), {"x"})
    assert (result.mean, result.ratio, result.halves, result.error) == (0.0, 1.0, 0.0, 0.0)


def test_values_that_overflow_at_weight_zero_do_no_harm():
    values = np.r_[np.random.default_rng(0).normal(size=99), np.inf]
    weights = np.r_[np.full(99, 1 / 99), 0.0]
    result = compare({"x": values}, weights, {"x"})
    assert all(np.isfinite(v) for k, v in dataclasses.asdict(result).items() if not k.endswith("site"))


def test_means_far_from_zero_are_compared_in_sd():
    mean, _, precision = gaussian(3, 0.5, seed=3)
    target = build(quadratic_model(3), {"mean": mean + 1e6, "precision": precision}, "double")
    fit = jn.fit(quadratic_model(3), {"mean": mean + 1e6, "precision": precision})
    assert fit.check().verdict == "trusted"
    wrong = MeanField(np.asarray(fit.q.loc) + 2 * fit.q.scales(), np.log(fit.q.scales()))
    assert judged(target, wrong).verdict != "trusted"
