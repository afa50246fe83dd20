"""One rotation of a posterior that rotations leave as it is: its integral, its inverse, its coordinates."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_t

from jensen._model import build
from jensen._model.one_rotation import aligned, log_orthogonal


def loadings(rows, columns):
    def model():
        numpyro.sample("w", dist.Normal(0, 1).expand([rows, columns]).to_event(2))
        numpyro.sample("tau", dist.Gamma(2, 1))

    target = build(model, {}, "double")
    reference = {"w": np.random.default_rng(0).normal(size=(rows, columns)), "tau": np.ones(())}
    found = aligned(target, [(("w", 1),)], reference)
    assert found is not None
    return target, found


@pytest.mark.parametrize("columns", [2, 3])
def test_the_density_of_one_rotation_has_the_integral_of_all(columns):
    """That of a normal density is 1: importance draws of a Student-t with the moments of one rotation of its draws."""
    _, found = loadings(4, columns)
    rng, dim, count = np.random.default_rng(1), found.dim, 40_000
    assert dim == 4 * columns - columns * (columns - 1) // 2 + 1
    drawn, _ = found.inverse({"w": rng.normal(size=(4000, 4, columns)), "tau": rng.gamma(2.0, size=4000)})
    mean, factor = drawn.mean(axis=0), np.linalg.cholesky(np.cov(drawn.T))
    points = mean + rng.normal(size=(count, dim)) @ factor.T * np.sqrt(8.0 / rng.chisquare(8.0, size=(count, 1)))
    weights = np.exp(found.value(points) - multivariate_t.logpdf(points, mean, factor @ factor.T, df=8))
    error = weights.std() / np.sqrt(count)
    assert error < 0.01
    assert abs(weights.mean() - 1.0) < 4.0 * error


def test_every_rotation_of_a_point_has_its_coordinates():
    target, found = loadings(4, 3)
    rng = np.random.default_rng(2)
    w, tau = rng.normal(size=(5, 4, 3)), rng.gamma(2.0, size=5)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    here, there = (found.inverse({"w": one, "tau": tau})[0] for one in (w, w @ turn))
    np.testing.assert_allclose(here, there, atol=1e-10)
    again = found.constrain(here)
    np.testing.assert_allclose(again["w"] @ again["w"].transpose(0, 2, 1), w @ w.transpose(0, 2, 1), atol=1e-10)
    np.testing.assert_allclose(again["tau"], tau)
    same = target.value(target.inverse({"w": again["w"], "tau": tau})[0])
    np.testing.assert_allclose(same, target.value(target.inverse({"w": w, "tau": tau})[0]), rtol=1e-12)
    assert found.coordinate_names() == ["tau"] + ["w"] * 9


def test_the_volume_of_the_orthogonal_matrices():
    """O(2) is two circles, and O(3) twice the space of rotations, 8 π²."""
    assert log_orthogonal(2) == pytest.approx(np.log(4 * np.pi))
    assert log_orthogonal(3) == pytest.approx(np.log(16 * np.pi**2))
