"""The textbook approach: known maxima, and objectives that have none."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints

from jensen._base.errors import ModelError, OptionError
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.naive import Naive

from .zoo import ZOO

POSITIVE = {"lam": constraints.positive}


def toy(params, x):
    return x * params["lam"] ** 2 + jnp.log(params["lam"])


@pytest.mark.parametrize("x", [-2.0, -0.1, -50.0])
def test_toy_has_its_known_maximum(x):
    fit = Naive().maximise(toy, {"lam": 3.0}, data={"x": x}, supports=POSITIVE)
    assert fit.converged
    assert float(fit.params["lam"]) == pytest.approx((-2 * x) ** -0.5, rel=1e-4)
    assert fit.elbo == pytest.approx(-0.5 - 0.5 * np.log(-2 * x), abs=1e-9)
    assert np.all(np.diff(fit.history) >= 0)


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_toy_without_maximum_is_said_to_have_none(x):
    fit = Naive().maximise(toy, {"lam": 3.0}, data={"x": x}, supports=POSITIVE)
    assert not fit.converged
    assert np.isnan(fit.elbo)
    assert fit.params == {}
    assert "no maximum" in fit.status


def test_several_parameters():
    def bound(params):
        return -jnp.sum((params["m"] - jnp.array([1.0, -2.0])) ** 2) - (jnp.log(params["s"]) - 1.0) ** 2

    fit = Naive().maximise(bound, {"m": [0.0, 0.0], "s": 1.0}, supports={"s": constraints.positive})
    np.testing.assert_allclose(fit.params["m"], [1.0, -2.0], atol=1e-4)
    assert float(fit.params["s"]) == pytest.approx(np.e, rel=1e-4)


def test_bad_starts_are_named():
    with pytest.raises(OptionError, match="'lam'"):
        Naive().maximise(toy, {"lam": -1.0}, data={"x": -1.0}, supports=POSITIVE)
    with pytest.raises(ModelError, match="nan"):
        Naive().maximise(toy, {"lam": -1.0}, data={"x": -1.0})
    with pytest.raises(OptionError, match="lacks"):
        Naive().maximise(toy, {"lam": 1.0}, data={"x": -1.0}, supports={"lamb": constraints.positive})


@pytest.mark.parametrize("name", ["unit_mixture", "normal_gamma"])
def test_same_maximum_as_coordinate_ascent(name):
    init = {"mu": [-1.0, 1.0]} if name == "unit_mixture" else {"mu": 1.0}
    ascent = CAVI(tolerance=1e-13).fit_conjugate(*ZOO[name], init=init)
    fit = Naive().fit_conjugate(*ZOO[name], init=init)
    assert fit.elbo == pytest.approx(ascent.elbo, abs=1e-6)
    assert np.all(np.diff(fit.history) >= 0)
    assert fit.history[-1] <= ascent.elbo + 1e-9


@pytest.mark.parametrize("name", ["minimum", "saddle", "flat saddle", "inflection", "many"])
def test_a_stationary_point_that_is_no_maximum_is_left(name):
    """A gradient of zero is not enough: the climb goes on from beside minima and saddles."""
    bound, start, best = {
        "minimum": (lambda p: -((p["a"] ** 2 - 1.0) ** 2), 0.0, 0.0),
        "saddle": (lambda p: jnp.sum(jnp.array([1.0, -1.0]) * p["a"] ** 2) - jnp.sum(p["a"] ** 4), [0.0, 0.0], 0.25),
        "flat saddle": (lambda p: jnp.sum(p["a"] ** 4) - jnp.sum(p["a"] ** 6), [0.0, 0.0], 2 * 4 / 27),
        "inflection": (lambda p: p["a"] ** 3 - p["a"] ** 4, 0.0, 27 / 256),
        "many": (
            lambda p: jnp.sum(p["a"][:1] ** 2) - jnp.sum(p["a"] ** 4) - jnp.sum(p["a"][1:] ** 2),
            np.zeros(250),
            0.25,
        ),
    }[name]
    fit = Naive().maximise(bound, {"a": start})
    assert fit.converged
    assert fit.elbo == pytest.approx(best, abs=1e-6)
    assert np.all(np.diff(fit.history) >= 0)


@pytest.mark.parametrize("name", ["exponential", "slow", "valley", "edge", "upper edge", "separated"])
def test_a_supremum_that_is_never_attained_is_said_to_be_none(name):
    x = jnp.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.3]])
    bound, start, support = {
        "exponential": (lambda p: -jnp.exp(-p["a"]) - 5.0, 0.0, None),
        "slow": (lambda p: -1.0 / (1.0 + p["a"] ** 2), 1.0, None),
        "valley": (lambda p: -jnp.exp(-p["a"][0]) - (p["a"][1] - p["a"][0]) ** 2, [0.0, 1.0], None),
        "edge": (lambda p: -p["a"], 1.0, constraints.positive),
        "upper edge": (lambda p: p["a"], 0.5, constraints.unit_interval),
        "separated": (lambda p: -jnp.sum(jnp.logaddexp(0.0, -x @ p["a"])), [0.0, 0.0], None),
    }[name]
    fit = Naive().maximise(bound, {"a": start}, supports={"a": support} if support is not None else None)
    assert not fit.converged
    assert fit.params == {}
    assert "no maximum" in fit.status


@pytest.mark.parametrize("name", ["quartic", "gauge", "plateau", "start"])
def test_maxima_without_curvature_are_maxima(name):
    """A quartic top, a direction in which nothing changes, and a start at the top."""
    bound, start, best = {
        "quartic": (lambda p: -jnp.sum(p["a"] ** 4), [1.0, 2.0], 0.0),
        "gauge": (lambda p: -((p["a"][0] - p["a"][1] - 1.0) ** 2), [0.0, 0.0], 0.0),
        "plateau": (lambda p: -(jnp.maximum(jnp.abs(p["a"]) - 1.0, 0.0) ** 2), 3.0, 0.0),
        "start": (lambda p: -(p["a"] ** 2), 0.0, 0.0),
    }[name]
    fit = Naive().maximise(bound, {"a": start})
    assert fit.converged
    assert fit.elbo == pytest.approx(best, abs=1e-6)
