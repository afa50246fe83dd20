"""What amortised inference cannot use, and what is said about it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import jensen as jn
from jensen._amortised.model import row_target
from tests.amortised import models as m

DATA = {"x": np.array([0.3, -0.8, 1.7, 0.2])}


def refused(error, message, model=m.one_normal, data=DATA, **options):
    with pytest.raises(error, match=message):
        jn.fit(model, data, jn.amortised(**options))


def test_an_encoder_of_the_wrong_output_shape():
    message = r"returns 3 numbers for each row, but the factors need 2.*1 means and 1 for the log sds"
    refused(jn.OptionError, message, encoder=m.Constant(jnp.zeros(3)))
    refused(
        jn.OptionError,
        "5 numbers for each row: 2 means and 3",
        _pair,
        _two(),
        encoder=m.Constant(jnp.zeros(4)),
        family="full_rank",
    )


def _pair(x):
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
        numpyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def _counted(x, n):
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.arange(4.0)[n], 1))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _two():
    return {"x": np.zeros((4, 2))}


def test_an_encoder_that_cannot_be_one():
    refused(jn.OptionError, "cannot be called", encoder=3)
    refused(jn.OptionError, "no arrays, so there is nothing in it to learn", encoder=lambda row: row)
    wrong = eqx.nn.Linear(7, 2, key=jax.random.key(0))
    refused(jn.OptionError, r"cannot read a row.*one row is x \(2,\)", _pair, _two(), encoder=wrong)
    refused(jn.OptionError, "hidden shapes the network", encoder=wrong, hidden=(3,))
    refused(jn.OptionError, "cannot see 'y'.*Known: x", inputs=["y"])


def test_a_plate_that_does_not_exist_or_holds_no_latents():
    refused(jn.OptionError, "no plate 'rwo'.*Did you mean 'row'", plate="rwo")

    def outside(x):
        z = numpyro.sample("z", dist.Normal(0, 1))
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    refused(jn.OptionError, "holds no latents", outside, plate="row")
    refused(jn.ModelError, "no plate of rows with latents", outside)


def test_rows_that_do_not_stand_alone():
    def centred(x):
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x - x.mean())

    refused(jn.ModelError, "do not stand alone: the term 'x' of 2 rows", centred)

    def shrinking(x):
        mu = numpyro.sample("mu", dist.Normal(0, 1 / len(x)))
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(mu, 1))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    refused(jn.ModelError, "do not stand alone: the term 'mu'", shrinking)

    def counted(x, n):
        with numpyro.plate("row", n):
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x[: len(x)])

    # A number of rows that is passed as one is that of the rows taken; one inside the program cannot be.
    assert row_target(counted, {**DATA, "n": 4}, "double").model(3).rows == 3
    refused(jn.ModelError, "cannot be run on 2 of the 4 rows of 'row'", lambda x: counted(x, 4))


def test_discrete_latents_outside_the_plate():
    def model(x):
        k = numpyro.sample("k", dist.Bernoulli(0.5))
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(k, 1))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    refused(jn.ModelError, "'k' lies outside the plate 'row'", model)


def test_numbers_out_of_range():
    refused(jn.OptionError, "batch_size is 9, but there are 4 rows", batch_size=9)
    refused(jn.OptionError, "has no family 'ful_rank'.*Did you mean", family="ful_rank")
    refused(jn.OptionError, "tolerance must be positive", tolerance=0.0)
    with pytest.raises(jn.OptionError, match="no plates"):
        jn.fit(jn.LogDensity(lambda z: -(z["a"] ** 2), {"a": ()}), method=jn.amortised())


def test_new_rows_of_another_shape():
    fit = jn.fit(_pair, {"x": np.zeros((4, 2))}, jn.amortised(hidden=(2,), max_epochs=60))
    for data, message in (
        ({"x": np.zeros((3, 5))}, r"New rows of 'x' have the shape \(5,\), those of the fit \(2,\)"),
        ({"x": np.zeros(2)}, r"a single row as x\[None\]"),
        ({}, "New rows need 'x'"),
        ({"x": np.zeros((3, 2)), "y": 1.0}, "'y' is not an argument of the model"),
        ({"x": np.array([[0.0, 1.0], [2.0, np.nan]])}, r"'x' holds 1 missing values.*index \(1, 1\)"),
    ):
        with pytest.raises(jn.DataError, match=message):
            fit.infer(data)
    counted = jn.fit(_counted, {"x": np.zeros(4), "n": np.arange(4)}, jn.amortised(hidden=(2,), max_epochs=2))
    for n, message in (([0, 9], "'n' gives an index outside 0..3.*row 1"), ([0, 1.5], "'n' holds 1.5.*row 1")):
        with pytest.raises(jn.DataError, match=message):
            counted.infer({"x": np.zeros(2), "n": np.array(n)})
    other = jn.fit(m.one_normal, DATA, "laplace")
    with pytest.raises(jn.UndefinedError, match=r"Use jn\.amortised"):
        other.infer(DATA)
    with pytest.raises(jn.UndefinedError, match=r"Use jn\.amortised"):
        other.surgery()


def test_a_parameter_outside_its_constraint_or_that_is_a_latent():
    def outside(x):
        scale = numpyro.param("scale", -1.0, constraint=constraints.positive)
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(z, scale), obs=x)

    refused(jn.ModelError, "'scale' lies outside its constraint", outside)

    def both(x):
        numpyro.param("z", 0.0)
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    refused(jn.ModelError, "cannot also be a latent", both)


def test_a_bound_without_maximum_is_named():
    """Rows on a line that the model knows: the noise goes to zero and the bound to infinity."""
    along = np.array([1.0, -0.5, 0.3])
    rows = np.random.default_rng(0).normal(size=(20, 1)) * along

    def model(x):
        noise = numpyro.param("noise", 10.0, constraint=constraints.positive)
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(z[:, None] * along, noise).to_event(1), obs=x)

    found = r"no maximum in the parameter 'noise'.*still rising.*Parameter 'noise'.*give the parameter a prior"
    refused(jn.ModelError, found, model, {"x": rows}, hidden=(2,), max_epochs=4000)
