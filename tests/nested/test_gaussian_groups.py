"""Groups of several latents that are Gaussian given the rest: integrated out exactly, and held in one rotation."""

import jax
import numpy as np
import pytest
from scipy import stats

from jensen._auto.target import worthwhile
from jensen._gaussian.rotations import in_one_rotation, may_turn
from jensen._math.precision import working
from jensen._model import build
from jensen._nested import integrated, on_chart
from tests.nested import models

Y = np.random.default_rng(3).normal(size=(12, 3)) @ np.random.default_rng(4).normal(size=(3, 6))
Y = Y + 0.3 * np.random.default_rng(5).normal(size=Y.shape)
POINT = np.random.default_rng(6).normal(0.0, 0.5, 19)


@pytest.fixture(scope="module")
def density():
    return build(models.factor_rows, {"y": Y}, "double")


@pytest.fixture(scope="module")
def target(density):
    return integrated(density)


def _marginal(point):
    """Log p(y, θ) at u, in closed form: rows are N(0, W Wᵀ + σ²)."""
    noise, loadings = np.exp(point[0]), point[1:].reshape(6, 3)
    cov = loadings @ loadings.T + noise**2 * np.eye(6)
    rows = stats.multivariate_normal(np.zeros(6), cov).logpdf(Y).sum()
    return rows + stats.norm.logpdf(point[1:]).sum() + stats.halfnorm.logpdf(noise) + point[0]


def test_three_latents_a_group_are_integrated_out_exactly(target):
    assert target.structure.offsets.keys() == {"noise", "loadings"}
    values, slopes = target.value_and_grad(POINT[None])
    np.testing.assert_allclose(values[0], _marginal(POINT), rtol=1e-10)
    steps = 1e-6 * np.eye(19)
    expected = [(_marginal(POINT + one) - _marginal(POINT - one)) / 2e-6 for one in steps]
    np.testing.assert_allclose(slopes[0], expected, rtol=1e-5, atol=1e-6)


def test_the_scores_are_drawn_from_their_exact_conditional(target):
    drawn = target.complete(np.repeat(POINT[None], 4000, axis=0), 1)["scores"]
    noise, loadings = np.exp(POINT[0]), POINT[1:].reshape(6, 3)
    cov = np.linalg.inv(np.eye(3) + loadings.T @ loadings / noise**2)
    np.testing.assert_allclose(drawn.mean(axis=0), Y @ loadings @ cov / noise**2, atol=0.08)
    apart = drawn - drawn.mean(axis=0)
    np.testing.assert_allclose(np.einsum("nri,nrj->ij", apart, apart) / (4000 * 12), cov, atol=0.02)


def test_rotations_are_found_and_a_file_finds_them_again(density, target):
    assert may_turn(target, ["noise", "loadings"], ["scores"])
    turned = in_one_rotation(target, POINT, target.latent(POINT))
    assert turned.dim == 19 - 3
    here = turned.value(turned.initial[None])
    again = on_chart(density, turned.chart())
    np.testing.assert_allclose(again.value(turned.initial[None]), here, rtol=1e-12)
    with working("double"):
        latent, log_volume = jax.device_get(turned.model.bijection.forward(turned.initial))
    np.testing.assert_allclose(here[0] - log_volume, _marginal(POINT) - POINT[0], rtol=1e-9)
    np.testing.assert_allclose(latent["loadings"].ravel(), POINT[1:], atol=1e-9)


def test_what_is_exact_comes_before_a_field_that_is_not_gaussian(density):
    found, _ = worthwhile(density)
    assert [one.structure.offsets.keys() for one in found] == [{"noise", "loadings"}]
