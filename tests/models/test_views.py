"""A model in rescaled unconstrained coordinates: the same numbers, so that bounds need no correction."""

import jax
import numpy as np
import pytest

from jensen._bounds import ELBO
from jensen._estimators import FixedDraws
from jensen._families import MeanField
from jensen._math.noise import symmetric_draws
from jensen._math.precision import working
from jensen._model import build
from jensen._model.views import Affine, Unconstrained
from tests.zoo import MODELS

SHIFT, SCALE = np.linspace(-0.3, 0.3, 5), np.linspace(0.1, 3.0, 5)


@pytest.fixture
def model():
    with working("double"):
        yield build(MODELS["eight_schools"].model, MODELS["eight_schools"].data, "double").model


def test_affine_and_its_inverse():
    with working("double"):
        chart, point = Affine(SHIFT, SCALE), np.linspace(-2, 2, 5)
        latent, log_det = chart.forward(point)
        back, again = chart.inverse(latent)
        np.testing.assert_allclose(back, point, atol=1e-12)
        assert float(log_det) == float(again) == pytest.approx(np.log(SCALE).sum())
        assert chart.dim == 5


def test_the_density_is_the_models_with_the_jacobian_once(model):
    view, point = Unconstrained(model, Affine(SHIFT, SCALE)), np.linspace(-1, 1, 5)
    expected = float(model.log_density(SHIFT + SCALE * point)) + np.log(SCALE).sum()
    assert float(view.log_density(point)) == pytest.approx(expected, abs=1e-10)
    assert float(view.log_joint(point)["log_density"]) == pytest.approx(expected, abs=1e-10)
    theirs = model.constrain(SHIFT + SCALE * point)
    for name, value in view.constrain(point).items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-12)


def test_bounds_are_the_same_numbers_in_both_coordinates(model):
    estimator = FixedDraws(symmetric_draws(16, 5, seed=0))
    flat = Unconstrained(model, Affine(np.zeros(5), np.ones(5)))
    scaled = Unconstrained(model, Affine(SHIFT, SCALE))
    q = MeanField(np.linspace(-1, 1, 5), np.full(5, -1.0))
    moved = q.affine(SHIFT, SCALE)
    values = jax.jit(lambda: (estimator(ELBO(), scaled, q, None), estimator(ELBO(), flat, moved, None)))()
    assert float(values[0]) == pytest.approx(float(values[1]), abs=1e-9)
