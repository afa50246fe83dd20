"""The textbook approach: known maxima, and objectives that have none."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints

from jensen._errors import ModelError, OptionError
from jensen.algorithms.cavi import CAVI
from jensen.algorithms.naive import Naive

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
