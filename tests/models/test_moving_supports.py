"""Latents whose support depends on other latents: the density on the line, and fits against quadrature."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._model import build
from jensen._program.purity import repeatable

Y = np.random.default_rng(0).uniform(0.2, 0.8, 6)


def nested(y):
    """a on (0, 1), b on (0, a), c on (b, a)."""
    a = numpyro.sample("a", dist.Uniform(0, 1))
    b = numpyro.sample("b", dist.Uniform(0, a))
    c = numpyro.sample("c", dist.Uniform(b, a))
    numpyro.sample("y", dist.Normal(c, 1), obs=y)


def in_a_plate(y):
    high = numpyro.sample("high", dist.Gamma(2.0, 1.0))
    with numpyro.plate("row", len(y)):
        x = numpyro.sample("x", dist.Uniform(0, high))
        numpyro.sample("y", dist.Normal(x, 1), obs=y)


def truncated(y):
    low = numpyro.sample("low", dist.Normal(0, 1))
    x = numpyro.sample("x", dist.TruncatedNormal(0.0, 2.0, low=low))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(x, 1), obs=y)


def target_of(model):
    found, _ = repeatable(model, {"y": Y}, "double")
    return build(found, {"y": Y}, "double")


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def slope(u):
    return np.log(sigmoid(u) * sigmoid(-u))


def normal(x, mean=0.0, sd=1.0):
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def test_the_density_is_that_of_the_program_on_the_line():
    points = np.random.default_rng(1).normal(size=(5, 3))
    a, (b, c) = sigmoid(points[:, 0]), sigmoid(points[:, 1:]).T
    inside = b * a + (a - b * a) * c
    want = slope(points).sum(axis=1) + normal(Y[:, None], inside).sum(axis=0)
    np.testing.assert_allclose(target_of(nested).value(points), want, rtol=1e-10)
    at = target_of(nested).constrain(points)
    np.testing.assert_allclose(at["c"], inside, rtol=1e-10)

    points = np.random.default_rng(2).normal(size=(5, 7))
    high = np.exp(points[:, :1])
    want = 2 * np.log(high[:, 0]) - high[:, 0] + slope(points[:, 1:]).sum(axis=1)
    want = want + normal(Y, high * sigmoid(points[:, 1:])).sum(axis=1)
    np.testing.assert_allclose(target_of(in_a_plate).value(points), want, rtol=1e-10)


@pytest.mark.parametrize("method", ["laplace", "auto"])
def test_fits_agree_with_quadrature(method):
    fit = jn.fit(nested, {"y": Y}, method, progress=False)
    u = np.linspace(-9, 9, 91)
    grid = np.stack(np.meshgrid(u, u, u, indexing="ij"), axis=-1).reshape(-1, 3)
    a = sigmoid(grid[:, 0])
    b = a * sigmoid(grid[:, 1])
    c = b + (a - b) * sigmoid(grid[:, 2])
    logs = slope(grid).sum(axis=1) + normal(Y[:, None], c).sum(axis=0)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    if method == "auto":
        assert fit.check().verdict != "untrusted"
    draws = fit.sample(4000)
    for name, values in {"a": a, "b": b, "c": c}.items():
        mean = weights @ values
        sd = np.sqrt(weights @ (values - mean) ** 2)
        assert draws[name].mean() == pytest.approx(mean, abs=(0.1 if method == "auto" else 0.4) * sd)
        assert draws[name].std() == pytest.approx(sd, rel=0.1 if method == "auto" else 0.5)


def test_predictions_files_and_plans(tmp_path):
    fit = jn.fit(truncated, {"y": Y}, "laplace", progress=False)
    assert (fit.sample(300)["x"] >= fit.sample(300)["low"]).all()
    assert fit.predict(num_draws=20)["y"].shape == (20, 6)
    assert fit.to_arviz(20)["posterior"]["x"].shape == (1, 20)
    fit.save(tmp_path / "fit.jn")
    loaded = jn.load(tmp_path / "fit.jn").attach(truncated, {"y": Y})
    assert loaded.predict(num_draws=20)["y"].shape == (20, 6)
    assert "x_base" in str(jn.explain(truncated, {"y": Y}))


def test_bounds_that_are_data_are_left_alone():
    def model(low, y):
        x = numpyro.sample("x", dist.Uniform(low, low + 2.0))
        numpyro.sample("y", dist.Normal(jnp.sum(x), 1), obs=y)

    found, _ = repeatable(model, {"low": np.zeros(3), "y": Y}, "double")
    assert found is model
