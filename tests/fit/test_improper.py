"""Posteriors without an integral are refused in a sentence that names the direction; heavy tails are not."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import jensen as jn
from jensen._model import build
from jensen._modes.climbs import climb, settle
from jensen._modes.improper_posterior import check_integral

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
X[:, 2] = X[:, 0]
Y = X[:, 0] + RNG.normal(size=40)
GRID = np.linspace(-2, 2, 30)


def flat(name, support=constraints.real, shape=()):
    return numpyro.sample(name, dist.ImproperUniform(support, (), event_shape=shape))


def collinear(y):
    numpyro.sample("y", dist.Normal(X @ flat("b", shape=(3,)), 1), obs=y)


def two_intercepts(y):
    numpyro.sample("y", dist.Normal(flat("b0") + flat("b2"), 1), obs=y)


def separated(y):
    numpyro.sample("y", dist.Bernoulli(logits=flat("a") + flat("b") * GRID), obs=(GRID > 0).astype(int))


def product_of_rates(y):
    rate = flat("a", constraints.positive) * flat("b", constraints.positive)
    numpyro.sample("y", dist.Poisson(rate), obs=np.array([3, 4, 5, 2]))


def flat_log_scale(y):
    """Effects with a flat prior on the logarithm of their scale: it can be as small as it likes."""
    tau = flat("tau", constraints.positive)
    numpyro.factor("jeffreys", -jnp.log(tau))
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([8]).to_event(1))
    numpyro.sample("y", dist.Normal(mu + tau * z, 1), obs=y[:8])


def unused(y):
    flat("m")
    numpyro.sample("y", dist.Normal(numpyro.sample("s", dist.Normal(0, 1)), 1), obs=y)


def one_observation(y):
    numpyro.sample("y", dist.Normal(0, flat("s", constraints.positive)), obs=y[:1])


def density(fn, support=constraints.real):
    return jn.LogDensity(fn, {"x": ()}, {"x": support})


IMPROPER = {
    "collinear": (collinear, r"only b\[0\] \+ b\[2\] is determined.* along b\[0\] - b\[2\]"),
    "two intercepts": (two_intercepts, r"only b0 \+ b2 is determined.* along b0 - b2"),
    "separated": (separated, "does not fall as .*b grows"),
    "product of rates": (product_of_rates, r"only log a \+ log b is determined.* along log a - log b"),
    "flat log scale": (flat_log_scale, "does not fall as -log tau grows"),
    "unused": (unused, "does not fall as m grows"),
    "one observation": (one_observation, "does not fall as log s grows"),
    "constant": (density(lambda z: 0.0 * z["x"]), "as x grows"),
    "constant with a scale": (density(lambda z: 0.0 * z["x"], constraints.positive), "as log x grows"),
    "half": (density(lambda z: -jnp.logaddexp(0.0, -z["x"])), "as x grows"),
    "one over x": (density(lambda z: -0.5 * jnp.log1p(z["x"] ** 2)), "does not fall as"),
}
PROPER = {
    "cauchy": density(lambda z: -jnp.log1p(z["x"] ** 2)),
    "half-cauchy": density(lambda z: -jnp.log1p(z["x"] ** 2), constraints.positive),
    "student, 0.05": density(lambda z: -0.525 * jnp.log1p(z["x"] ** 2 / 0.05)),
    "gamma, 0.001": density(lambda z: -0.999 * jnp.log(z["x"]) - 0.001 * z["x"], constraints.positive),
    "inverse gamma, 0.01": density(lambda z: -1.01 * jnp.log(z["x"]) - 0.01 / z["x"], constraints.positive),
    "beta, 0.01": density(lambda z: -0.99 * jnp.log(z["x"] * (1 - z["x"])), constraints.unit_interval),
    "wide normal": density(lambda z: -0.5 * (z["x"] / 1e8) ** 2),
}


@pytest.mark.parametrize("name", IMPROPER)
def test_the_direction_is_named(name):
    model, words = IMPROPER[name]
    data = {} if isinstance(model, jn.LogDensity) else {"y": Y}
    with pytest.raises(jn.ModelError, match=f"improper.*{words}"):
        jn.fit(model, data, "laplace", progress=False)


@pytest.mark.parametrize("name", ["two intercepts", "constant with a scale", "separated"])
def test_by_default_too(name):
    model, words = IMPROPER[name]
    data = {} if isinstance(model, jn.LogDensity) else {"y": Y}
    with pytest.raises(jn.ModelError, match=f"improper.*{words}"):
        jn.fit(model, data, progress=False)


def looked_at(model, data):
    target = build(model, data, "double")
    *_, path = [None]
    run = climb(target, 0, 4)
    while path is None:
        try:
            next(run)
        except StopIteration as stop:
            path = stop.value[0]
    mode = settle(target, path)
    check_integral(target, mode.point, mode.factor)


@pytest.mark.parametrize("name", PROPER)
def test_heavy_tails_and_wide_priors_are_proper(name):
    looked_at(PROPER[name], {})


def wide_priors(y):
    b = numpyro.sample("b", dist.Normal(0, 1e6).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ b, 1), obs=y)


def wide_intervals(y):
    numpyro.sample(
        "y",
        dist.Normal(numpyro.sample("a", dist.Uniform(-1e6, 1e6)) + numpyro.sample("b", dist.Uniform(-1e6, 1e6)), 1),
        obs=y,
    )


def separated_cauchy(y):
    b = numpyro.sample("b", dist.Cauchy(0, 2.5))
    numpyro.sample("y", dist.Bernoulli(logits=b * GRID), obs=(GRID > 0).astype(int))


def flat_but_determined(y):
    numpyro.sample("y", dist.Normal(flat("m"), flat("s", constraints.positive)), obs=y)


def horseshoe(y):
    tau = numpyro.sample("tau", dist.HalfCauchy(1))
    scales = numpyro.sample("l", dist.HalfCauchy(1).expand([3]).to_event(1))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ (z * tau * scales), 1), obs=y)


def centred(y):
    """The density rises for ever as tau and the effects go to zero, and narrows as fast."""
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    effect = numpyro.sample("effect", dist.Normal(0, tau).expand([8]).to_event(1))
    numpyro.sample("y", dist.Normal(effect, 1), obs=0.0 * y[:8])


@pytest.mark.parametrize(
    "model", [wide_priors, wide_intervals, separated_cauchy, flat_but_determined, horseshoe, centred]
)
def test_weak_priors_are_proper(model):
    looked_at(model, {"y": Y})


def test_a_density_that_stops_falling_where_its_latents_underflow_is_proper():
    """Dirichlet(0.01): along a coordinate it falls by 0.01 a unit, up to where a probability is the smallest number."""

    def model():
        numpyro.sample("p", dist.Dirichlet(jnp.full(3, 0.01)))

    target = build(model, {}, "double")
    check_integral(target, np.zeros(2), np.eye(2))


def test_a_density_that_has_lost_its_digits_far_out_is_not_improper():
    """The way of a beta-binomial's log concentration: it falls, and then differences of log Γ at exp(32) are noise."""
    from jensen._modes.improper_posterior import _cancelled

    distance = 2.0 ** np.arange(10)
    noisy = np.where(distance < 32, -1.5 * distance, np.tile([-1.0, 1.0], 5) * 10.0 ** (distance / 2))
    assert _cancelled(noisy).tolist() == (distance >= 32).tolist()
    for kept in (-distance, 1e-6 * distance**2 - distance, np.exp(distance), np.zeros(10), -np.log(distance)):
        assert not _cancelled(kept).any()
