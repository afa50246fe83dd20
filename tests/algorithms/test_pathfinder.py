"""Pathfinder: exact on Gaussians once the path has learnt the curvature; multi-path; the best bound is taken."""

import numpy as np
import pytest

import jensen as jn
from jensen._gaussian.pathfinder import best_along
from jensen._math import lbfgs
from jensen._math.quasi_newton import inverse_hessian
from jensen._model import build
from jensen._modes.climbs import find_starts
from tests.posteriors import fitted, gaussian, quadratic_model


def climbed(dim, correlation, seed=0):
    mean, covariance, precision = gaussian(dim, correlation)
    target = build(quadratic_model(dim), {"mean": mean, "precision": precision}, "double")
    paths = list(lbfgs.maximise(target.value_and_grad, find_starts(target, seed, 1)))[-1]
    return target, paths[0], mean, covariance


def test_curvature_along_the_path_becomes_exact():
    """With all pairs kept, the quasi-Newton inverse Hessian at the end of a quadratic climb is the covariance."""
    _, path, _, covariance = climbed(4, 0.5)
    sd = np.sqrt(np.diag(covariance))
    matrix = inverse_hessian(path, len(path.points) - 1, history=100)
    np.testing.assert_allclose(matrix / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_gaussian_posterior(correlation):
    mean, covariance, precision = gaussian(4, correlation)
    fit = jn.fit(quadratic_model(4), {"mean": mean, "precision": precision}, jn.pathfinder(history=50))
    sd = np.sqrt(np.diag(covariance))
    log_evidence = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert np.abs((fit.q.loc - mean) / sd).max() < 0.1
    assert log_evidence - 0.1 < fit.elbo.value <= log_evidence + 1e-9


def test_the_centre_is_a_newton_step_from_the_iterate():
    """q_l = N(u + H⁻¹g, H⁻¹) for the iterate l that was chosen (Zhang et al. 2022, algorithm 1)."""
    target, path, _, _ = climbed(4, 0.5)
    q, bound = best_along(target, path, 0, 64, 10)
    candidates = [inverse_hessian(path, i, 10) for i in range(1, len(path.points))]
    offsets = [
        np.abs(path.points[i] + candidates[i - 1] @ path.gradients[i] - q.loc).max() for i in range(1, len(path.points))
    ]
    chosen = int(np.argmin(offsets))
    assert offsets[chosen] < 1e-10
    np.testing.assert_allclose(q.covariance(), candidates[chosen], rtol=1e-8)
    assert np.isfinite(bound)


def test_no_other_iterate_has_a_higher_bound():
    target, path, _, _ = climbed(3, 0.5)
    _, best = best_along(target, path, 0, 64, 10, max_points=1000)
    for stop in range(2, len(path.points)):
        part = lbfgs.Path(path.points[:stop], path.values[:stop], path.gradients[:stop])
        assert best_along(target, part, 0, 64, 10, max_points=1000)[1] <= best + 1e-12


def test_more_paths_never_lower_the_bound():
    few, many = (jn.fit(*model(), jn.pathfinder(num_paths=n)) for n in (1, 8))
    assert max(many.outcome.restarts) >= max(few.outcome.restarts) - 1e-9
    assert len(many.outcome.restarts) == 8


def model():
    from tests.posteriors import logistic, logistic_data

    return logistic, logistic_data()


def test_a_rough_answer_is_corrected_or_refused():
    fit = fitted("counts", "pathfinder")
    reference = fitted("counts", "auto").summary()
    if fit.check().verdict != "untrusted":
        error = (fit.summary()["mean"] - reference["mean"]) / reference["sd"]
        assert np.abs(error).max() < 0.3


def test_one_step_paths_still_answer():
    fit = jn.fit(*model(), jn.pathfinder(max_steps=1, num_paths=2))
    assert np.isfinite(fit.elbo.value)
    assert fit.check().verdict != "trusted"
