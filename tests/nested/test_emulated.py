"""Fits on a surface through few values of the density of θ: the surface, and the answers that rest on it."""

import numpy as np
import pytest

import jensen as jn
from jensen._math.surface import Surface
from jensen._nested import EmulatedTarget, NestedTarget
from jensen._nested.emulation import Known, varies
from tests.nested import models


def smooth(u):
    """A curved log density in two dimensions, and its gradient."""
    x, y = u[:, 0], u[:, 1]
    value = -0.5 * (x - 1) ** 2 - 2.0 * (y - 0.2 * x**2) ** 2 + 0.1 * np.sin(x)
    slope = np.stack([-(x - 1) + 1.6 * x * (y - 0.2 * x**2) + 0.1 * np.cos(x), -4.0 * (y - 0.2 * x**2)], axis=1)
    return value, slope


@pytest.fixture(scope="module")
def surface():
    rng = np.random.default_rng(0)
    points = np.array([1.0, 0.2]) + rng.normal(size=(40, 2)) * [1.2, 0.7]
    factor = np.array([[1.0, 0.0], [0.4, 0.5]])
    return Surface.fitted(points, *smooth(points), np.array([1.0, 0.2]), factor, np.zeros((0, 2))), points


def test_a_surface_goes_through_what_it_was_fitted_to_and_is_near_elsewhere(surface):
    fitted, points = surface
    value, slope = fitted.value_and_grad(points)
    noise = np.sqrt(fitted.nugget * fitted.scale)
    np.testing.assert_allclose(value, smooth(points)[0], rtol=0, atol=5.0 * noise)
    np.testing.assert_allclose(slope, smooth(points)[1], rtol=0, atol=20.0 * noise)
    between = np.random.default_rng(1).normal(size=(200, 2)) * [0.8, 0.4] + [1.0, 0.2]
    assert np.std(fitted.value_and_grad(between)[0] - smooth(between)[0]) < 0.01


def test_few_values_tell_what_is_bent_along_one_direction_of_many():
    rng, dim = np.random.default_rng(3), 6
    way = np.linalg.qr(rng.normal(size=(dim, dim)))[0][0]  # along no axis

    def bent(u):
        along = u @ way
        value = -0.5 * (u**2).sum(axis=1) + along - 0.6 * np.exp(along) + 0.2 * u[:, 0]
        return value, -u + way * (1.0 - 0.6 * np.exp(along))[:, None] + 0.2 * np.eye(dim)[0]

    points, others = rng.normal(size=(24, dim)), 0.7 * rng.normal(size=(500, dim))
    fitted = Surface.fitted(points, *bent(points), np.zeros(dim), np.eye(dim), np.zeros((0, dim)))
    assert np.std(fitted.value_and_grad(others)[0] - bent(others)[0]) < 0.03
    turned = np.linalg.inv(fitted.factor) @ way
    assert np.argmin(fitted.lengths) == np.argmax(np.abs(turned))
    assert np.sort(fitted.lengths)[1] > 3.0 * fitted.lengths.min()


def test_the_gradient_of_a_surface_is_that_of_its_values(surface):
    fitted, known = surface
    points = known[:5] + 0.1
    steps = 1e-4 * np.eye(2)
    ahead, behind = (fitted.value_and_grad((points[:, None] + s * steps).reshape(-1, 2))[0] for s in (1.0, -1.0))
    differences = ((ahead - behind) / 2e-4).reshape(5, 2)
    np.testing.assert_allclose(fitted.value_and_grad(points)[1], differences, rtol=1e-4, atol=1e-4)


def test_what_a_surface_does_not_know_is_nothing_at_its_points_and_all_far_away(surface):
    fitted, points = surface
    here, far = fitted.covariance(points[:3]), fitted.covariance(np.array([[60.0, 0.0]]))
    assert np.abs(here).max() < 1e-3 * fitted.scale
    assert far[0, 0] == pytest.approx(fitted.scale)


def test_far_from_all_points_a_surface_falls_ever_faster(surface):
    fitted, points = surface
    ray = points[0] + np.linspace(20.0, 60.0, 5)[:, None] * np.array([1.0, 0.0])
    values = fitted.value_and_grad(ray)[0]
    assert (np.diff(values) < -1.0).all()
    assert (np.diff(values, 2) < 0.01 * np.abs(np.diff(values)).min()).all()


@pytest.fixture(scope="module")
def fit():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jensen._nested.target.DEAR", 0.0)
        yield jn.fit(models.counts, {"y": models.COUNTS}, progress=False)


def test_a_fit_on_a_surface_is_right_with_few_values(fit, exact):
    target = fit.answer.target
    assert isinstance(target, EmulatedTarget)
    assert target.off < 0.02
    assert target.exact.gradients < 300
    models.assert_right(fit, *exact)
    assert f"a surface through {len(target.surface.points)} of its values" in str(fit.check())


def test_what_is_asked_far_out_is_asked_of_the_program(fit, monkeypatch):
    assert type(fit.answer.unconstrained(fit.pool, {})[0]) is NestedTarget
    asked = []
    timed = NestedTarget.value_and_grad
    monkeypatch.setattr(NestedTarget, "value_and_grad", lambda self, u: asked.append(type(self)) or timed(self, u))
    assert "fit.refine()" in fit.answer.onward(fit.pool)
    assert asked == [NestedTarget] * 2  # the time of NUTS is that of the program's gradients


def test_how_far_a_density_is_from_another_over_a_posterior():
    even, half = np.ones(40), np.repeat([0.0, 0.2], 20)
    assert varies(np.full(40, 7.0), even) == 0.0
    assert varies(half, even) == pytest.approx(0.2 * np.exp(0.2) / (1.0 + np.exp(0.2)))
    assert varies(np.where(np.arange(40) < 10, -np.inf, 0.0), even) == pytest.approx(0.25 * 0.5)
    seen = varies(np.where(np.arange(40) == 0, 50.0, 0.0), even)  # a tail that the first has and the second has not
    assert seen == pytest.approx(0.5 * np.exp(5.0) / (39.0 + np.exp(5.0)))
    assert varies(np.full(3, np.nan), np.ones(3)) == 0.5


def test_a_value_that_is_known_is_not_computed_again_and_a_new_one_is_told_the_surface():
    class Target:
        dim, asked = 2, 0

        def value_and_grad(self, points):
            self.asked += len(points)
            return smooth(points)

    target, points = Target(), np.random.default_rng(0).normal(size=(5, 2))
    known = Known(target)
    known.at(points[1:3])
    np.testing.assert_array_equal(known.value(points), smooth(points)[0])
    assert target.asked == len(known.points) == 5
    np.testing.assert_array_equal(known.value(points[::-1]), smooth(points[::-1])[0])
    assert target.asked == 5


def test_a_surface_through_wrong_values_is_found_out(exact, monkeypatch):
    monkeypatch.setattr("jensen._nested.target.DEAR", 0.0)
    right = Known.at

    def bent(self, points):
        right(self, points)
        if np.isinf(self.off):  # as long as the surface is not checked
            self.values[-len(points) :] += 2.0 * points[:, 0]
            self.gradients[-len(points) :, 0] += 2.0
        return self.values[-len(points) :], self.gradients[-len(points) :]

    monkeypatch.setattr(Known, "at", bent)
    monkeypatch.setattr(Known, "value", lambda self, points: self.target.value(points))  # else the error shows it
    fit = jn.fit(models.counts, {"y": models.COUNTS}, progress=False)
    assert type(fit.answer.target) is NestedTarget
    models.assert_right(fit, *exact)


def test_a_saved_fit_keeps_its_surface(fit, tmp_path):
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn").attach(models.counts, {"y": models.COUNTS})
    points = np.zeros((3, 2))
    np.testing.assert_array_equal(again.answer.target.value(points), fit.answer.target.value(points))
    np.testing.assert_array_equal(again.sample(20)["u"], fit.sample(20)["u"])


def test_a_density_that_a_surface_cannot_follow_is_fitted_itself(monkeypatch):
    monkeypatch.setattr("jensen._nested.target.DEAR", 0.0)
    monkeypatch.setattr("jensen._nested.emulation.ROUNDS", 0)
    fit = jn.fit(models.counts, {"y": models.COUNTS}, progress=False)
    assert type(fit.answer.target) is NestedTarget
    assert fit.check().verdict in ("trusted", "usable")
