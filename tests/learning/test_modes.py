"""A point factor stands at the maximiser of ⟨η, t(z)⟩."""

import jax.numpy as jnp
import numpy as np
import pytest

from jensen._families.exponential import (
    AtMode,
    Beta,
    Dirichlet,
    GammaPower,
    MultivariateNormal,
    Normal,
    Wishart,
)
from jensen._families.exponential.contract import inner
from jensen._math.precision import working

rng = np.random.default_rng(0)
ROOT = rng.normal(size=(3, 3)) + 3 * np.eye(3)
RATE = ROOT @ ROOT.T


def near_real(z, e):
    return z + e


def near_positive(z, e):
    return z * np.exp(e)


def near_unit(z, e):
    return 1 / (1 + np.exp(-np.log(z / (1 - z)) - e))


def near_simplex(z, e):
    w = z * np.exp(e)
    return w / w.sum(-1, keepdims=True)


def near_matrix(z, e):
    step = np.eye(3) + 0.5 * (e + e.T)
    return step @ z @ step.T


FACTORS = {
    "normal": (Normal({"z": jnp.array([1.0, -2.0]), "zz": jnp.array([-0.5, -3.0])}), near_real),
    "multivariate": (MultivariateNormal({"z": jnp.array([1.0, 0.0, 2.0]), "zz": -0.5 * RATE}, (0,)), near_real),
    "precision": (GammaPower({"power": jnp.array(-2.0), "log": jnp.array(3.0)}, 1.0), near_positive),
    "variance": (GammaPower({"power": jnp.array(-2.0), "log": jnp.array(-3.0)}, -1.0), near_positive),
    "scale": (GammaPower({"power": jnp.array(-2.0), "log": jnp.array(-3.0)}, -2.0), near_positive),
    "beta": (Beta({"log": jnp.array(3.0), "log1m": jnp.array(1.5)}), near_unit),
    "dirichlet": (Dirichlet({"log": jnp.array([3.0, 0.5, 1.0])}), near_simplex),
    "wishart": (Wishart({"matrix": -0.5 * RATE, "logdet": jnp.array(4.0)}), near_matrix),
    "inverse wishart": (Wishart({"matrix": -0.5 * RATE, "logdet": jnp.array(-4.0)}, True), near_matrix),
}


def gap(factor, near, value):
    """The largest ⟨η, t(z)⟩ of 200 points near a value, above that value's own."""
    with working("double"):
        here = float(inner(factor.natural, factor.statistics(jnp.asarray(value))))
        noise = np.random.default_rng(1)
        others = [near(np.asarray(value), 0.05 * noise.normal(size=np.shape(value))) for _ in range(200)]
        return max(float(inner(factor.natural, factor.statistics(jnp.asarray(o)))) for o in others) - here


@pytest.mark.parametrize("name", FACTORS)
def test_no_point_nearby_is_higher(name):
    factor, near = FACTORS[name]
    point = AtMode(factor)
    with working("double"):
        value = np.asarray(point.mode_value())
        assert np.all(np.asarray(point.contains()))
        mean, size = point.solved()
        for key, statistic in factor.statistics(jnp.asarray(value)).items():
            np.testing.assert_allclose(mean[key], statistic, rtol=1e-9, atol=1e-12)
        assert float(point.entropy()) == 0.0
        assert float(size) == pytest.approx(float(inner(factor.natural, mean)))
    assert gap(factor, near, value) <= 1e-12
    moved = near(value, np.full(np.shape(value), 0.2) * (np.arange(np.size(value)).reshape(np.shape(value)) + 1))
    assert gap(factor, near, moved) > 1e-6  # the law notices a value that is no mode


def test_what_has_no_mode_says_so():
    with working("double"):
        assert not AtMode(GammaPower({"power": jnp.array(0.0), "log": jnp.array(-3.0)}, -2.0)).contains()
        assert not AtMode(Normal({"z": jnp.array(1.0), "zz": jnp.array(0.0)})).contains()
        assert not AtMode(Wishart({"matrix": 0.0 * RATE, "logdet": jnp.array(-4.0)}, True)).contains()
