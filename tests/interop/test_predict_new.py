"""Predictions for new levels, further steps and unobserved places, against closed forms of Gaussian models."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import jensen as jn

DRAWS = 4000


def fitted(model, data):
    return jn.fit(model, data, "laplace", progress=False)  # exact: all models here are Gaussian


def agrees(draws, mean, variance):
    """Means within 5 standard errors, sds within 7 %."""
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * np.sqrt(variance / len(draws))).all()
    np.testing.assert_allclose(draws.std(axis=0), np.sqrt(variance), rtol=0.07)


def conditional(prior, observed, y, noise):
    """Mean and covariance of a Gaussian vector with this prior covariance, some entries seen with noise."""
    gain = prior[:, observed] @ np.linalg.inv(prior[np.ix_(observed, observed)] + noise * np.eye(len(observed)))
    return gain @ y, prior - gain @ prior[observed]


def by_group(size, g, y=None):
    m = numpyro.sample("m", dist.Normal(0.0, 3.0))
    with numpyro.plate("group", size):
        a = numpyro.sample("a", dist.Normal(m, 1.5))
    with numpyro.plate("row", len(g)):
        numpyro.sample("y", dist.Normal(a[g], 0.5), obs=y)


GROUP = np.array([0, 0, 1, 1, 1, 2, 3, 3])
Y = np.array([2.1, 1.7, 3.9, 4.2, 3.8, -0.5, 2.8, 3.1])


@pytest.fixture(scope="module")
def grouped():
    return fitted(by_group, {"size": 4, "g": GROUP, "y": Y})


def groups_answer(size):
    """Mean and covariance of the effects of so many groups: a = m + 1.5 e."""
    prior = 9.0 * np.ones((size, size)) + 2.25 * np.eye(size)
    design = np.eye(size)[GROUP]
    gain = prior @ design.T @ np.linalg.inv(design @ prior @ design.T + 0.25 * np.eye(len(Y)))
    return gain @ Y, prior - gain @ design @ prior


def test_new_levels_of_a_group(grouped):
    """Levels keep their numbers; 4 and 5 are new, and share m with the others and with each other."""
    mean, covariance = groups_answer(6)
    y = grouped.predict({"size": 6, "g": np.arange(6)}, num_draws=DRAWS)["y"]
    agrees(y, mean, np.diag(covariance) + 0.25)
    expected = covariance[4, 5] / (covariance[4, 4] + 0.25)
    assert np.corrcoef(y[:, 4], y[:, 5])[0, 1] == pytest.approx(expected, abs=0.06)


def test_fewer_levels_are_the_first_ones(grouped):
    mean, covariance = groups_answer(4)
    y = grouped.predict({"size": 2, "g": np.array([1, 0])}, num_draws=DRAWS)["y"]
    agrees(y, mean[[1, 0]], np.diag(covariance)[[1, 0]] + 0.25)


def test_levels_that_are_all_new(grouped):
    mean, covariance = groups_answer(5)
    y = grouped.predict({"g": np.arange(4)}, num_draws=DRAWS, new="a")["y"]
    agrees(y, np.full(4, mean[4]), np.full(4, covariance[4, 4] + 0.25))
    with pytest.raises(jn.OptionError, match="no latent 'b'"):
        grouped.predict({"g": np.arange(4)}, new=["b"])


def test_effects_of_rows_are_told_by_their_inputs():
    def rows(x, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", len(x)):
            u = numpyro.sample("u", dist.Normal(0.0, 2.0))
            numpyro.sample("y", dist.Normal(b * x + u, 0.5), obs=y)

    fit = fitted(rows, {"x": np.array([1.0, -1.0, 0.5]), "y": np.array([3.0, 1.0, -2.0])})
    y = fit.predict({"x": np.array([1.0, 0.0, 0.5, 0.0])}, num_draws=DRAWS)["y"]  # rows 1 and 3 are others
    assert y[:, [0, 2]].mean(axis=0) == pytest.approx([3.0, -2.0], abs=0.4)
    agrees(y[:, [1, 3]], np.zeros(2), np.full(2, 4.25))


def walk_of_law(T, y=None):
    h = numpyro.sample("h", dist.GaussianRandomWalk(0.4, T))
    numpyro.sample("y", dist.Normal(h, 0.3).to_event(1), obs=y)


def walk_of_steps(T, y=None):
    with numpyro.plate("time", T):
        e = numpyro.sample("e", dist.Normal(0.0, 0.4))
        numpyro.sample("y", dist.Normal(jnp.cumsum(e), 0.3), obs=y)


def walk_of_scan(T, y=None):
    def step(h, value):
        h = numpyro.sample("h", dist.Normal(h, 0.4))
        numpyro.sample("y", dist.Normal(h, 0.3), obs=value)
        return h, None

    scan(step, 0.0, y, length=T)


@pytest.mark.parametrize("model", [walk_of_law, walk_of_steps, walk_of_scan])
def test_a_series_goes_on_from_its_last_value(model):
    y = np.array([0.5, 1.1, 1.4, 2.2, 2.0, 2.9])
    prior = 0.16 * np.minimum.outer(np.arange(1, 10), np.arange(1, 10))
    mean, covariance = conditional(prior, np.arange(6), y, 0.09)
    fit = fitted(model, {"T": 6, "y": y})
    agrees(fit.predict({"T": 9}, num_draws=DRAWS)["y"], mean, np.diag(covariance) + 0.09)
    if model is not walk_of_steps:
        agrees(fit.predict({"T": 4}, num_draws=DRAWS)["y"], mean[:4], np.diag(covariance)[:4] + 0.09)


def test_persons_that_are_new_in_a_scan_of_steps():
    def panel(T, persons, y=None):
        def step(h, value):
            with numpyro.plate("person", persons):
                h = numpyro.sample("h", dist.Normal(h, 0.4))
                numpyro.sample("y", dist.Normal(h, 0.3), obs=value)
            return h, None

        scan(step, jnp.zeros(persons), y, length=T)

    y = np.array([[0.5, -0.2], [1.1, -0.4], [1.4, 0.1]])
    prior = 0.16 * np.minimum.outer(np.arange(1, 6), np.arange(1, 6))
    fit = fitted(panel, {"T": 3, "persons": 2, "y": y})
    found = fit.predict({"T": 5, "persons": 3}, num_draws=DRAWS)["y"]
    for person in (0, 1):
        mean, covariance = conditional(prior, np.arange(3), y[:, person], 0.09)
        agrees(found[:, :, person], mean, np.diag(covariance) + 0.09)
    agrees(found[:, :, 2], np.zeros(5), np.diag(prior) + 0.09)


def kernel(x):
    return jnp.exp(-0.5 * (x[:, None] - x) ** 2) + 1e-6 * jnp.eye(len(x))


def field_of_law(x, y=None):
    f = numpyro.sample("f", dist.MultivariateNormal(jnp.zeros(len(x)), kernel(x)))
    numpyro.sample("y", dist.Normal(f, 0.3).to_event(1), obs=y)


def field_of_noise(x, y=None):
    with numpyro.plate("place", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(jnp.linalg.cholesky(kernel(x)) @ z, 0.3).to_event(1), obs=y)


@pytest.mark.parametrize("model", [field_of_law, field_of_noise])
def test_places_of_a_field(model):
    x, new = np.array([0.0, 0.7, 1.5, 3.0]), np.array([1.1, 3.4, 9.0])
    y, every = np.array([0.4, 1.0, 1.2, -0.8]), np.r_[x, new]
    mean, covariance = conditional(np.asarray(kernel(every)), np.arange(4), y, 0.09)
    fit = fitted(model, {"x": x, "y": y})
    agrees(fit.predict({"x": every}, num_draws=DRAWS)["y"], mean, np.diag(covariance) + 0.09)
    with pytest.raises(jn.DataError, match=r"do not begin with those of the fit.*'x' first differs at entry 0"):
        fit.predict({"x": new})


def test_as_many_other_places_of_a_field():
    x = np.array([0.0, 0.7, 1.5])
    fit = fitted(field_of_law, {"x": x, "y": np.array([0.4, 1.0, 1.2])})
    with pytest.raises(jn.DataError, match="entries of 'f' are at other places"):
        fit.predict({"x": x + 1})
    assert fit.predict({"x": x}, num_draws=3)["y"].shape == (3, 3)


def chained(size, tau, y=None, at=None):
    """A field whose law is a factor: neighbours differ by Normal(0, 1), all of it by Normal(0, 10)."""
    with numpyro.plate("place", size):
        f = numpyro.sample("f", dist.Normal(0.0, 10.0))
    numpyro.factor("smooth", -0.5 * tau * jnp.sum(jnp.diff(f) ** 2))
    with numpyro.plate("row", len(at)):
        numpyro.sample("y", dist.Normal(f[at], 0.3), obs=y)


def test_places_that_factors_tie_to_the_fitted_ones():
    y, at = np.array([1.0, 1.5, 3.0]), np.arange(3)
    difference = np.diff(np.eye(5), axis=0)
    # what the factor adds for new places is not in the fit: the fitted ones keep their posterior given three places
    three = np.linalg.inv(np.eye(3) / 100 + difference[:2, :3].T @ difference[:2, :3])
    mean, covariance = conditional(three, at, y, 0.09)
    after = np.linalg.inv(np.eye(2) / 100 + np.array([[2.0, -1.0], [-1.0, 1.0]]))
    pull = after @ np.array([1.0, 0.0])
    fit = fitted(chained, {"size": 3, "tau": 1.0, "y": y, "at": at})
    found = fit.predict({"size": 5, "at": np.arange(5)}, num_draws=DRAWS)["y"]
    agrees(found[:, :3], mean, np.diag(covariance) + 0.09)
    agrees(found[:, 3:], pull * mean[2], pull**2 * covariance[2, 2] + np.diag(after) + 0.09)


def test_laws_of_new_entries_that_are_not_known():
    def shares(size, y=None):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(size)))
        numpyro.sample("y", dist.Multinomial(10, p), obs=y)

    fit = fitted(shares, {"size": 3, "y": np.array([2, 3, 5])})
    with pytest.raises(jn.UndefinedError, match=r"new entries of 'p' cannot be drawn.*not Gaussian"):
        fit.predict({"size": 4})
    assert fit.predict({"size": 4}, num_draws=3, new="p")["y"].shape == (3, 4)
