"""Posterior predictive draws, at the fit's inputs and at new ones, against NumPyro's `Predictive` and closed forms."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import Predictive

import jensen as jn
from tests.posteriors import MODELS, conjugate, conjugate_answer, conjugate_data, counts, fitted


def test_training_inputs_against_the_closed_form():
    """y* ~ N(x m, x C xᵀ + 0.25): means within 5 standard errors of 4000 draws, sds within 10 %."""
    data = conjugate_data()
    mean, covariance, _ = conjugate_answer(**data)
    y = fitted("conjugate").predict(num_draws=4000)["y"]
    assert y.shape == (4000, 12)
    sd = np.sqrt(np.diag(data["x"] @ covariance @ data["x"].T) + 0.25)
    assert np.abs((y.mean(axis=0) - data["x"] @ mean) / sd).max() < 5 / np.sqrt(4000)
    np.testing.assert_allclose(y.std(axis=0), sd, rtol=0.1)


def without_outcome(x, y=None):
    with numpyro.plate("feature", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def test_new_inputs_of_another_length():
    data = conjugate_data()
    fit = jn.fit(without_outcome, data)
    mean, covariance, _ = conjugate_answer(**data)
    new = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.5]])
    y = fit.predict({"x": new}, num_draws=4000)["y"]
    assert y.shape == (4000, 2)
    sd = np.sqrt(np.diag(new @ covariance @ new.T) + 0.25)
    assert np.abs((y.mean(axis=0) - new @ mean) / sd).max() < 5 / np.sqrt(4000)
    np.testing.assert_allclose(y.std(axis=0), sd, rtol=0.1)


@pytest.mark.parametrize("name", ["counts", "logistic", "robust"])
def test_the_same_draws_as_numpyros_predictive(name):
    program, data = MODELS[name]
    fit = fitted(name)
    found = fit.predict(num_draws=50, seed=7)["y"]
    latents = {site.name: fit.sample(50, seed=7)[site.name] for site in fit.structure.latents}
    with jax.enable_x64(True):
        forward = numpyro.handlers.uncondition(program)
        expected = Predictive(forward, latents, return_sites=["y"])(jax.random.key(7), **data)["y"]
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_replicates_look_like_the_data():
    fit = fitted("counts")
    y = fit.predict(num_draws=500)["y"]
    assert np.issubdtype(y.dtype, np.integer)
    observed = MODELS["counts"][1]["y"]
    low, high = np.quantile(y.mean(axis=1), [0.001, 0.999])
    assert low < observed.mean() < high


def test_seeds():
    fit = fitted("conjugate")
    first, second, third = (fit.predict(num_draws=5, seed=s)["y"] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_new_groups_are_drawn_from_their_prior():
    """A latent of another shape comes from its prior given the other draws: sd of N(mu, tau) over both."""

    def groups(size, y=None):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        with numpyro.plate("group", size):
            effect = numpyro.sample("effect", dist.Normal(mu, 1.0))
            numpyro.sample("y", dist.Normal(effect, 0.5), obs=y)

    y = np.array([3.0, 4.0, 5.0, 4.0])
    fit = jn.fit(groups, {"size": 4, "y": y})
    assert fit.predict(num_draws=10)["y"].shape == (10, 4)
    new = fit.predict({"size": 2}, num_draws=4000)["y"]
    mu = fit.sample(4000)["mu"]
    assert new.shape == (4000, 2)
    assert new.mean() == pytest.approx(mu.mean(), abs=0.15)
    assert new.std() == pytest.approx(np.sqrt(mu.var() + 1 + 0.25), rel=0.1)


def test_inputs_the_model_lacks_or_does_not_know():
    fit = fitted("counts")
    data = MODELS["counts"][1]
    with pytest.raises(jn.DataError, match="no argument 'z'"):
        fit.predict({"x": data["x"], "group": data["group"], "z": 1.0})
    with pytest.raises(jn.DataError, match="needs 'x'"):
        fit.predict({"group": data["group"]})
    with pytest.raises(jn.DataError, match="cannot be run on the new data"):
        fit.predict({"x": data["x"], "group": data["group"][:5]})
    with pytest.raises(jn.DataError, match="missing"):
        fit.predict({"x": np.full(48, np.nan), "group": data["group"]})


def test_a_model_that_must_have_its_outcome_says_so():
    fit = fitted("conjugate")  # `y` is a required argument, and None is passed for it
    assert fit.predict({"x": np.ones((2, 3))}, num_draws=4)["y"].shape == (4, 2)

    def needs(x, y):
        w = numpyro.sample("w", dist.Normal(0, 1))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(w * x, 1), obs=y)

    fit = jn.fit(needs, {"x": np.ones(3), "y": np.arange(3.0)}, "laplace")
    with pytest.raises(jn.DataError, match="cannot be run on the new data") as caught:
        fit.predict({"x": np.ones(2)})
    assert "None" in str(caught.value)


def test_what_cannot_be_predicted():
    with pytest.raises(jn.UndefinedError, match="LogDensity has no observed sites"):
        fitted("banana").predict()

    def factors(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.factor("like", dist.Normal(mu, 1.0).log_prob(y).sum())

    with pytest.raises(jn.UndefinedError, match="its likelihood is a factor"):
        jn.fit(factors, {"y": np.ones(3)}, "laplace").predict()


def test_the_users_flag_and_names():
    assert not jax.config.jax_enable_x64
    fitted("counts").predict(num_draws=3)
    assert not jax.config.jax_enable_x64
    assert counts.__name__ == "counts"
    assert conjugate.__name__ == "conjugate"
