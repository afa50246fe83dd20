"""Bad input through the entry points of coordinate ascent: each refusal says what, where and what to do."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from jensen._base.errors import DataError, ModelError, OptionError
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.svi import SVI

from .zoo import ZOO

Y = np.array([0.5, 1.0, 2.0])
HERE = "test_bad_input.py line"


def fixed_plate(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", 5):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def classes(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Categorical(p), obs=y)


def counts(y):
    rate = numpyro.sample("rate", dist.Gamma(1, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def groups(y, g):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Normal(b[g], 1), obs=y)


def flat(y):
    numpyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    numpyro.sample("y", dist.Normal(0, tau**-0.5).expand([3]).to_event(1), obs=y)


def other_covariate(y, x):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Normal(mu * x, 1), obs=y)


def negative_shape(y, a):
    rate = numpyro.sample("rate", dist.Gamma(a, 1))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Exponential(rate), obs=y)


CASES = {
    "plate of another size": (fixed_plate, {"y": Y}, DataError, ["'y'", "(3,)", "'row' of size 5", HERE, "broadcast"]),
    "one value for five rows": (fixed_plate, {"y": Y[:1]}, DataError, ["'y'", "(1,)", "'row' of size 5"]),
    "a column for a row": (fixed_plate, {"y": np.ones((5, 1))}, DataError, ["(5, 1)", "'row' of size 5"]),
    "a scalar for five rows": (fixed_plate, {"y": 1.0}, DataError, ["shape ()", "'row' of size 5"]),
    "covariate of another size": (
        other_covariate,
        {"y": Y, "x": np.ones(4)},
        ModelError,
        ["input.py", "x (4,)"],
    ),
    "class label too large": (classes, {"y": np.array([0, 1, 3])}, DataError, ["'y'", "0..2", "row 2", "support"]),
    "negative class label": (classes, {"y": np.array([0, -1, 2])}, DataError, ["'y'", "row 1", "is -1"]),
    "half a class": (classes, {"y": np.array([0, 1.5, 2])}, DataError, ["'y'", "row 1"]),
    "group index too large": (groups, {"y": Y, "g": np.array([0, 1, 2])}, DataError, ["0..1", "is 2", "row 2", HERE]),
    "group index too small": (groups, {"y": Y, "g": np.array([0, -3, 1])}, DataError, ["0..1", "is -3", "row 1", HERE]),
    "group index of a missing category": (
        groups,
        {"y": Y, "g": np.array([0, -1, 1])},
        DataError,
        ["'g'", "0..1", "is -1", "row 1", "missing category"],
    ),
    "negative count": (counts, {"y": np.array([1, -2, 3])}, DataError, ["'y'", "row 1", "Poisson", HERE]),
    "infinite": (counts, {"y": np.array([1.0, np.inf])}, DataError, ["'y'", "infinite", "row 1"]),
    "missing": (counts, {"y": np.array([1.0, np.nan])}, DataError, ["'y'", "NaN", "row 1", "mask"]),
    "improper": (flat, {"y": Y}, ModelError, ["block 'mu' is improper", HERE, "proper prior"]),
    "negative shape": (negative_shape, {"y": Y, "a": -2.0}, ModelError, ["'rate'", "outside their domain", HERE]),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_words(case):
    model, data, error, words = CASES[case]
    with pytest.raises(error) as raised:
        CAVI().fit_conjugate(model, data)
    for word in words:
        assert word in str(raised.value)


def last_twice(y):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Normal(b[np.array([0, -1, -1])], 1), obs=y)


def test_negative_indices_written_in_the_program_count_from_the_end():
    forward = CAVI().fit_conjugate(groups, {"y": Y, "g": np.array([0, 1, 1])})
    backward = CAVI().fit_conjugate(last_twice, {"y": Y})
    np.testing.assert_allclose(forward.means()["b"], backward.means()["b"])


def test_a_batch_above_the_number_of_rows():
    with pytest.raises(OptionError, match="batch_size is 10, but there are 8 rows"):
        SVI(batch_size=10).fit_conjugate(*ZOO["unit_mixture"])


def test_more_values_than_rows_is_said_in_words():
    fit = CAVI().fit_conjugate(ZOO["unit_mixture"][0], {"x": np.array([1.0, 2.0]), "K": 5})
    assert "'c' has 5 values but only 2 rows" in fit.status
