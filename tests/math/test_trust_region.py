"""Trust-region Newton: known optima, indefinite starts, and the decrement as certificate."""

import numpy as np
import pytest

from jensen._math.curvature import Dense, MatrixFree
from jensen._math.trust_region import Newton, advance


def matrix_free(matrix):
    return MatrixFree(lambda v: matrix @ v, tolerance=1e-12)


KINDS = pytest.mark.parametrize("kind", [Dense, matrix_free])


def run(value_and_grad, curvature, start, steps=200):
    point = np.asarray(start, float)
    state = Newton(point, *value_and_grad(point), curvature(point))
    for count in range(steps):
        if state.decrement() < 1e-20:
            return state, count
        state = advance(state, value_and_grad, curvature)
    return state, steps


@KINDS
def test_a_quadratic_needs_one_step_inside_the_radius(kind):
    precision = np.array([[3.0, 1.0], [1.0, 2.0]])
    linear = np.array([0.5, -0.5])
    state, count = run(
        lambda x: (linear @ x - 0.5 * x @ precision @ x, linear - precision @ x), lambda x: kind(precision), np.zeros(2)
    )
    np.testing.assert_allclose(state.point, np.linalg.solve(precision, linear), atol=1e-12)
    assert count == 1


@KINDS
def test_decrement_is_twice_the_predicted_rise(kind):
    precision = np.diag([4.0, 0.25])
    start = np.array([1.0, 2.0])
    state = Newton(start, -0.5 * start @ precision @ start, -precision @ start, kind(precision))
    assert state.decrement() == pytest.approx(-2 * state.value)
    np.testing.assert_allclose(state.step(), -start)
    assert Newton(start, 0.0, start, kind(np.diag([1.0, -1.0]))).decrement() == np.inf


@KINDS
def test_rosenbrock_from_an_indefinite_region(kind):
    def value_and_grad(x):
        a, b = x
        gradient = np.array([2 * (1 - a) + 400 * a * (b - a**2), -200 * (b - a**2)])
        return -((1 - a) ** 2) - 100 * (b - a**2) ** 2, gradient

    def curvature(x):
        a, b = x
        return kind(np.array([[2 - 400 * (b - 3 * a**2), -400 * a], [-400 * a, 200.0]]))

    for start in ([-1.2, 1.0], [0.0, 3.0]):
        state, count = run(value_and_grad, curvature, start)
        np.testing.assert_allclose(state.point, [1.0, 1.0], atol=1e-8)
        assert count < 100


def test_a_trial_point_without_a_value_shrinks_the_radius_and_stays():
    def value_and_grad(x):
        return (np.nan if x[0] > 1 else float(x[0]), np.ones(1))

    state = Newton(np.array([0.9]), 0.9, np.ones(1), Dense(np.eye(1) * 0.1), radius=2.0)
    after = advance(state, value_and_grad, lambda x: Dense(np.eye(1) * 0.1))
    np.testing.assert_array_equal(after.point, [0.9])
    assert after.radius == pytest.approx(0.5)
    assert after.rejected == 1
    for _ in range(10):
        after = advance(after, value_and_grad, lambda x: Dense(np.eye(1) * 0.1))
    assert after.point[0] > 0.9


def test_conjugate_gradients_solve_and_respect_the_radius():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(40, 40))
    matrix, gradient = root @ root.T + np.eye(40), rng.normal(size=40)
    dense, free = Dense(matrix), matrix_free(matrix)
    np.testing.assert_allclose(free.newton(gradient), dense.newton(gradient), rtol=1e-8)
    for radius in (1e-3, 0.1):
        step = free.within(gradient, radius)
        assert np.linalg.norm(step) <= radius * (1 + 1e-12)
        exact = dense.within(gradient, radius)
        model = lambda s: gradient @ s - 0.5 * s @ matrix @ s  # noqa: E731
        assert 0.5 * model(exact) <= model(step) <= model(exact) * (1 + 1e-9)
