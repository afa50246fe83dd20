"""The density of θ is the program's with the groups integrated out."""

import numpy as np
import pytest
from scipy.stats import halfnorm, multivariate_normal

from jensen._model import build
from jensen._nested import Layout, integrated
from jensen._nested.layout import Owners
from jensen._nested.noncentred import centring, noncentred
from jensen._nested.shared_nodes import found_kinds
from tests.nested import models

POINTS = np.array([[0.4, -0.5], [0.9, -1.5], [-0.3, 0.4]])


@pytest.fixture(scope="module")
def counted():
    return integrated(build(models.counts, {"y": models.COUNTS}, "double"))


def test_counts_against_a_fine_grid(counted):
    exact = [models.counts_log_joint(b, np.exp(v)) + v for b, v in POINTS]
    np.testing.assert_allclose(counted.value(POINTS), exact, atol=2e-3)
    finest = counted.finer()
    np.testing.assert_allclose(finest.value(POINTS[:2]), exact[:2], atol=1e-5)


def test_gradients_are_those_of_the_values(counted):
    _, slopes = counted.value_and_grad(POINTS)
    step = 1e-4 * np.eye(2)
    for column in range(2):
        ends = counted.value(POINTS + step[column]), counted.value(POINTS - step[column])
        np.testing.assert_allclose(slopes[:, column], (ends[0] - ends[1]) / 2e-4, atol=2e-2)


def test_gaussian_groups_are_exact():
    data = models.slopes_data()
    target = integrated(build(models.slopes, data, "double"))
    design = (data["g"][:, None] == np.arange(models.GROUPS)) * 1.0
    sloped = design * data["x"][:, None]
    for point in POINTS:
        s, t = np.exp(point)
        covariance = s**2 * design @ design.T + t**2 * sloped @ sloped.T + 0.25 * np.eye(len(data["y"]))
        prior = halfnorm.logpdf([s, t]).sum() + point.sum()
        exact = multivariate_normal.logpdf(data["y"], data["x"], covariance) + prior
        assert target.value(point[None])[0] == pytest.approx(exact, abs=1e-6)


def test_latents_that_are_left_may_be_noncentred():
    """b = m + s v: the same density, with log s for every item besides; the groups' integrals stay as they are."""
    y = (np.random.default_rng(2).random((12, 5)) < 0.5).astype(int)
    target = integrated(build(models.graded, {"y": y}, "double"))
    other = noncentred(target)
    assert set(centring(other)) == {"b"}
    points = np.random.default_rng(3).normal(0.0, 0.5, (3, other.dim))
    where, scale = other.structure.offsets, np.exp(points[:, other.structure.offsets["s"]])
    own = points.copy()
    items = slice(where["b"], where["b"] + 5)
    own[:, items] = points[:, where["m"], None] + scale[:, None] * points[:, items]
    np.testing.assert_allclose(other.value(points), target.value(own) + 5 * np.log(scale), rtol=1e-9)
    np.testing.assert_allclose(other.finer().value(points), other.value(points), atol=0.01)


def test_too_few_nodes_are_noticed():
    coarse = integrated(build(models.counts, {"y": models.COUNTS}, "double"), 2)
    fine = integrated(build(models.counts, {"y": models.COUNTS}, "double"))
    assert coarse.error(POINTS) > 0.05
    assert fine.error(POINTS) < 0.01


@pytest.mark.parametrize("same", [True, False])
def test_draws_of_groups_follow_their_conditional(counted, same):
    points = np.tile([0.4, np.log(1.5)], (4000, 1))
    if not same:  # each with a chain of its own
        points[1::2, 0] += 1e-9
    found = counted.complete(points, 3)["u"]
    u = np.linspace(-9.0, 9.0, 2001)
    logs = models.COUNTS[:, None] * (0.4 + u) - np.exp(0.4 + u) - 0.5 * (u / 1.5) ** 2
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = weights @ u
    sd = np.sqrt(weights @ u**2 - mean**2)
    tail = (weights * (u < (mean - 1.5 * sd)[:, None])).sum(axis=1)
    np.testing.assert_allclose((found.mean(axis=0) - mean) / sd, 0.0, atol=0.08)
    np.testing.assert_allclose(found.std(axis=0) / sd, 1.0, atol=0.07)
    np.testing.assert_allclose((found < mean - 1.5 * sd).mean(axis=0), tail, atol=0.025)
    np.testing.assert_allclose(np.corrcoef(found.T), np.eye(len(mean)), atol=0.1)


@pytest.fixture(scope="module")
def answered():
    """(the density of the items, the same with shared nodes) for persons enough that sharing is worth it."""
    rng = np.random.default_rng(5)
    ability, hard = rng.normal(size=700), np.linspace(-1.5, 1.5, 12)
    y = (rng.random((700, 12)) < 1 / (1 + np.exp(hard - ability[:, None]))).astype(int)
    data = {"y": y, "persons": 700, "items": 12}
    exact = integrated(build(models.answers, data, "double"), 13)
    return exact, exact.shared(np.full(24, 0.1))


def test_groups_whose_rows_are_alike_share_nodes(answered):
    """Twelve answers are right or wrong: with the prior 25 kinds of rows tell all 700 integrals, as exactly as ever."""
    exact, shared = answered
    assert shared.model.alike.counts.shape == (700, 25)
    assert shared.elements < exact.elements / 4
    points = np.random.default_rng(6).normal(0.0, 0.3, (3, 24))
    (values, slopes), (told, sloped) = exact.value_and_grad(points), shared.value_and_grad(points)
    np.testing.assert_allclose(told, values, atol=0.02)
    np.testing.assert_allclose(sloped, slopes, atol=0.02)
    assert shared.error(points) < 1e-3
    assert shared.finer().model.alike is None


def test_shared_nodes_are_found_again(answered):
    exact, shared = answered
    again = exact.shared(np.full(24, 0.1), shared.chart()["shared"])
    points = np.random.default_rng(6).normal(0.0, 0.3, (2, 24))
    np.testing.assert_array_equal(again.value(points), shared.value(points))


def test_rows_that_are_not_alike_are_left_to_their_groups(counted):
    """Continuous covariates make every row a kind of its own; a row that differs at any place is another kind."""
    rng = np.random.default_rng(1)
    probed = np.concatenate([np.repeat(rng.normal(size=(2, 6)), 400, axis=0), np.zeros((0, 6))])
    layout = Layout((), np.zeros((40, 1), int), {"y": Owners.of(np.tile(np.arange(40), 20), 40)})
    assert found_kinds(probed, layout, {"y": 800}).counts.shape == (40, 2)
    probed[7, 3] *= 1 + 1e-6
    assert found_kinds(probed, layout, {"y": 800}).counts.shape == (40, 3)
    assert found_kinds(rng.normal(size=(800, 6)), layout, {"y": 800}) is None
    assert not counted.shareable
