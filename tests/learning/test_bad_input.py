"""Parameters that cannot be learned, and what is said about them."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import jensen as jn
from jensen._learning.variational import Chart, Edge
from jensen._math import lbfgs
from tests.learning import models as m

Y = m.EFFECTS


def test_a_parameter_that_is_also_a_latent():
    def model(y):
        mu = numpyro.param("mu", 0.0) + numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu, 1).expand([8]).to_event(1), obs=y)

    with pytest.raises(jn.ModelError, match=r"`mu` duplicated.*cannot also be a latent"):
        jn.fit(model, {"y": Y})


def test_a_parameter_outside_its_constraint():
    def model(y):
        scale = numpyro.param("scale", -1.0, constraint=constraints.positive)
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu, scale).expand([8]).to_event(1), obs=y)

    with pytest.raises(jn.ModelError, match=r"'scale' lies outside its constraint.*Start it inside"):
        jn.fit(model, {"y": Y})
    with pytest.raises(jn.ModelError, match=r"'tau' lies outside its constraint"):
        jn.fit(m.groups, {**m.SCHOOLS, "tau": -2.0}, learn=["tau"])


def test_a_component_that_holds_one_row():
    def model(x):
        mu = numpyro.param("mu", jnp.array([9.0, 0.0, 0.1]))
        scale = numpyro.param("scale", jnp.full(3, 0.05), constraint=constraints.positive)
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Categorical(jnp.ones(3) / 3))
            numpyro.sample("x", dist.Normal(mu[c], scale[c]), obs=x)

    x = np.concatenate([[9.0, 0.0, 0.1], np.random.default_rng(0).normal(size=50)])
    with pytest.raises(jn.ModelError, match=r"no maximum in the parameter 'scale'.*position.*fewer components"):
        jn.fit(model, {"x": x})


def test_no_latents_at_all():
    def model(y):
        scale = numpyro.param("scale", 1.0, constraint=constraints.positive)
        numpyro.sample("y", dist.Normal(0, scale).expand([8]).to_event(1), obs=y)

    with pytest.raises(jn.ModelError, match=r"'scale' but no other latents.*plain maximum likelihood"):
        jn.fit(model, {"y": Y})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learn": ["tua"]}, "neither an argument in `data` nor a latent site.*Did you mean 'tau'"),
        ({"learn": "tau"}, "must be a list of names"),
        ({"learn": ["tau"], "method": "laplace"}, "'laplace' does not learn parameters"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(jn.OptionError, match=message):
        jn.fit(m.groups, m.SCHOOLS, **options)


def test_an_argument_whose_range_the_model_does_not_show():
    def model(y, log_tau):
        with numpyro.plate("group", 8):
            theta = numpyro.sample("theta", dist.Normal(0, jnp.exp(log_tau)))
            numpyro.sample("y", dist.Normal(theta, 0.7), obs=y)

    data = {"y": Y, "log_tau": 0.0}
    with pytest.raises(jn.OptionError, match=r"range of the argument 'log_tau'.*learn=\{'log_tau'"):
        jn.fit(model, data, learn=["log_tau"])
    fit = jn.fit(model, data, learn={"log_tau": constraints.real})
    assert fit.estimates["log_tau"] == pytest.approx(0.5 * np.log((Y**2).mean() - 0.49), abs=1e-3)


def test_a_discrete_latent_cannot_be_a_point():
    with pytest.raises(jn.OptionError, match=r"'c' is discrete"):
        jn.fit(m.mixture, {"x": m.CLUSTERS}, learn=["c"])


def test_a_log_density_has_no_parameters():
    density = jn.LogDensity(lambda z: -0.5 * z["x"] ** 2, {"x": ()})
    with pytest.raises(jn.OptionError, match=r"has no parameters to learn"):
        jn.fit(density, learn=["x"])


def test_the_real_line_has_no_edge():
    chart = Chart.of({"mu": 0.0, "tau": 1.0}, {"mu": constraints.real, "tau": constraints.positive})
    edge = Edge(np.zeros(2), chart)
    assert not edge.reached(np.array([1000.0, 9.0]), 0.0)
    assert edge.far(np.array([1000.0, 9.0])) == ["tau"]
    assert edge.reached(np.array([0.0, 26.0]), 0.5)  # it levels off
    with pytest.raises(jn.ModelError, match="no maximum in the parameter 'tau'"):
        edge.reached(np.array([0.0, 26.0]), 2.0)
    path = lbfgs.Path([np.array([-700.0, 0.0])], [3.0], [np.array([-1.0, 0.0])], stopped="no step rises")
    with pytest.raises(jn.ModelError, match=r"'mu'.*moved by -700 and the bound was still rising"):
        edge.ended(path)
    edge.ended(path, frozenset({"mu"}))  # weights of networks may grow
    path.converged = True
    edge.ended(path)


@pytest.mark.slow
def test_the_scale_of_a_parameter_on_the_real_line_is_unknown():
    """A place of 1000 is found from 0; a log scale on its way to minus infinity is no place."""

    def model(y, mu, log_scale):
        with numpyro.plate("group", len(y)):
            theta = numpyro.sample("theta", dist.Normal(mu, 2.0))
            numpyro.sample("y", dist.StudentT(4.0, theta, jnp.exp(log_scale)), obs=y)

    data = {"y": 1000.0 + Y, "mu": 0.0, "log_scale": 0.0}
    fit = jn.fit(model, data, "advi", learn=["mu"])
    assert fit.estimates["mu"] == pytest.approx(1000.0 + np.median(Y), abs=1.0)
    assert "edge" not in fit.status

    def alone(x):
        mu = numpyro.param("mu", jnp.array([900.0, 0.0]))
        log_scale = numpyro.param("log_scale", jnp.array([-3.0, 0.0]))
        with numpyro.plate("row", len(x)):
            c = numpyro.sample("c", dist.Bernoulli(0.5))
            numpyro.sample("x", dist.Normal(mu[c], jnp.exp(log_scale[c])), obs=x)

    with pytest.raises(jn.ModelError, match=r"no maximum in the parameter 'log_scale'.*still rising"):
        jn.fit(alone, {"x": np.concatenate([[900.0], Y])})
