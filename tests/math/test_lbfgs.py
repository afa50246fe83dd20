"""The lockstep maximiser: known optima, bad scaling, regions without values, and honest stopping."""

import numpy as np
import pytest

from jensen._math import lbfgs, linalg
from jensen._math.quasi_newton import inverse_hessian


def maximise(evaluate, starts, **options):
    paths = []
    for paths in lbfgs.maximise(evaluate, np.asarray(starts, float), **options):
        assert len(paths) == len(starts)
    return paths


def quadratic(precision, centre):
    def evaluate(x):
        residual = x - centre
        return -0.5 * np.einsum("ij,jk,ik->i", residual, precision, residual), -residual @ precision

    return evaluate


def rosenbrock(x):
    a, b = x[:, 0], x[:, 1]
    gradient = np.stack([2 * (1 - a) + 400 * a * (b - a**2), -200 * (b - a**2)], axis=1)
    return -((1 - a) ** 2) - 100 * (b - a**2) ** 2, gradient


def holed(evaluate, bad):
    """The same function without a value where `bad(x)` holds."""

    def inner(x):
        values, gradients = evaluate(x)
        return np.where(bad(x), np.nan, values), gradients

    return inner


@pytest.mark.parametrize(("span", "gap"), [(0, 1e-8), (1, 1e-8), (2, 1e-8), (3, 1e-2)])
def test_a_badly_scaled_quadratic_from_eight_starts(span, gap):
    """Coordinates in units from 10^-span to 10^span, and correlations with a condition number of 100 besides.

    The stopping rule trusts the curvature learned so far; at a condition number of 10¹⁴ it may stop early, but not far.
    """
    dim = 12
    scales = np.logspace(-span, span, dim)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0]
    precision = (rotation / np.linspace(1, 100, dim)) @ rotation.T / np.outer(scales, scales) * 1e2
    centre = np.random.default_rng(1).normal(size=dim) * scales
    starts = centre + np.random.default_rng(2).normal(size=(8, dim)) * scales * 3
    for path in maximise(quadratic(precision, centre), starts):
        assert path.converged
        assert path.stopped == "converged"
        assert -gap < path.best[1] <= 0
        assert len(path.points) < 150


def test_rosenbrock():
    paths = maximise(rosenbrock, [[-1.2, 1.0], [0.0, 3.0], [3.0, -2.0], [1.0, 1.0]])
    for path in paths[:3]:
        assert path.converged
        np.testing.assert_allclose(path.points[-1], [1.0, 1.0], atol=1e-4)
        assert len(path.points) < 60


def test_a_start_at_the_optimum_stays_there():
    (path,) = maximise(quadratic(np.eye(2), np.ones(2)), [[1.0, 1.0]])
    np.testing.assert_array_equal(path.best[0], [1.0, 1.0])
    assert path.stopped


def test_values_never_fall_and_gradients_belong_to_points():
    for path in maximise(rosenbrock, [[-1.2, 1.0], [2.0, 2.0]]):
        assert (np.diff(path.values) >= -1e-12).all()
        values, gradients = rosenbrock(np.array(path.points))
        np.testing.assert_allclose(path.values, values)
        np.testing.assert_allclose(path.gradients, gradients)


def test_regions_without_a_value_are_stepped_back_from():
    # log x - x on x > 0: the first unit steps from 40 land where there is no logarithm.
    def evaluate(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sum(np.log(x) - x, axis=1), 1 / x - 1

    for path in maximise(evaluate, [[40.0, 0.01], [1e-4, 1e-4], [3.0, 500.0]]):
        assert path.converged
        assert path.best[1] == pytest.approx(-2.0, abs=1e-7)
    far = holed(quadratic(np.eye(2), np.zeros(2)), lambda x: (x > 5).any(axis=1))
    (path,) = maximise(far, [[4.9, -30.0]])
    assert path.converged


def test_a_start_without_a_value_stops_and_the_others_go_on():
    bad = holed(quadratic(np.eye(1), np.zeros(1)), lambda x: x[:, 0] > 5)
    lost, found = maximise(bad, [[9.0], [2.0]])
    assert lost.stopped == "the start is not finite"
    assert not lost.converged
    assert found.converged
    np.testing.assert_allclose(found.points[-1], 0.0, atol=1e-4)


def test_when_every_start_is_lost_the_paths_still_say_so():
    bad = holed(quadratic(np.eye(1), np.zeros(1)), lambda x: x[:, 0] > 5)
    (path,) = maximise(bad, [[9.0]])
    assert path.stopped == "the start is not finite"


def test_an_unbounded_function_stops_unconverged():
    (path,) = maximise(lambda x: (x[:, 0], np.ones_like(x)), [[0.0]], max_steps=15)
    assert not path.converged
    assert path.stopped
    assert path.best[1] > 10


def test_the_step_limit_is_no_convergence():
    (path,) = maximise(rosenbrock, [[-1.2, 1.0]], max_steps=3)
    assert not path.converged
    assert path.stopped == "3 steps"
    assert len(path.points) == 4


def test_a_kink_ends_the_path_without_a_claim_of_convergence():
    (path,) = maximise(lambda x: (-np.abs(x).sum(axis=1), -np.sign(x)), [[0.3, -7.0]], max_steps=200)
    assert path.best[1] > -1e-3
    assert path.stopped


def test_the_best_iterate_is_the_highest():
    path = lbfgs.Path([np.zeros(1), np.ones(1)], [3.0, 1.0], [np.ones(1), np.ones(1)])
    assert path.best[1] == 3.0


def test_lockstep_shares_evaluations():
    calls = []

    def counted(x):
        calls.append(len(x))
        return rosenbrock(x)

    maximise(counted, [[-1.2, 1.0]] * 6)
    assert calls[0] == 6
    assert max(calls) == 6
    single = len(calls)
    calls.clear()
    maximise(counted, [[-1.2, 1.0]])
    assert single == len(calls)


def test_inverse_curvature_along_a_path_of_a_quadratic():
    rng = np.random.default_rng(4)
    factor = np.tril(rng.normal(size=(5, 5)), -1) * 0.3 + np.diag([0.1, 1.0, 10.0, 3.0, 0.5])
    precision = np.linalg.inv(factor @ factor.T)
    (path,) = maximise(quadratic(precision, np.zeros(5)), [rng.normal(size=5) * 5], tolerance=1e-14)
    estimate = inverse_hessian(path, len(path.points) - 1)
    assert linalg.is_positive_definite(estimate)
    np.testing.assert_allclose(np.diag(estimate), np.diag(factor @ factor.T), rtol=0.2)
    np.testing.assert_allclose(inverse_hessian(path, 0), np.eye(5))
    # The secant condition H y = s holds for the last pair whatever the function.
    step, change = path.points[-1] - path.points[-2], path.gradients[-2] - path.gradients[-1]
    np.testing.assert_allclose(estimate @ change, step, rtol=1e-6, atol=1e-12)


def test_no_trial_goes_beyond_reach():
    """A function that never returns far away is not asked there; the optimum is found all the same."""
    seen = []

    def evaluate(x):
        seen.append(x.copy())
        return quadratic(np.diag([1.0, 1e-4]), np.array([3.0, 20.0]))(x)

    (path,) = maximise(evaluate, [[0.0, 0.0]], reach=1.0)
    np.testing.assert_allclose(path.points[-1], [3.0, 20.0], atol=1e-3)
    steps = np.abs(np.diff(np.array(path.points), axis=0))
    assert steps.max() <= 1.0 + 1e-12
    accepted = np.array(path.points)
    for trial in np.concatenate(seen[1:]):
        assert np.abs(accepted - trial).max(axis=1).min() <= 1.0 + 1e-12
    (free,) = maximise(evaluate, [[0.0, 0.0]])
    assert np.abs(np.diff(np.array(free.points), axis=0)).max() > 1.0


def test_a_climb_ends_where_the_error_of_values_hides_what_is_left():
    count, error = 0, 5e-7

    def evaluate(points):
        nonlocal count
        count += len(points)
        # gradients that turn about the optimum and vanish nowhere, as those of integrals with an error of their own do
        turn = points[:, ::-1] * [1.0, -1.0] / np.linalg.norm(points, axis=1, keepdims=True)
        return -0.5 * (points**2).sum(axis=1) - 700.0, np.sqrt(error) * turn - points

    starts = np.random.default_rng(5).normal(size=(4, 2))
    *_, paths = lbfgs.maximise(evaluate, starts)
    assert count < 4 * 60  # of a thousand steps with forty trials each
    for path in paths:
        assert path.converged
        assert path.best[1] > -700.0 - error
