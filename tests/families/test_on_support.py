"""Gaussians pushed onto the latents' support are densities there: they integrate to one and agree with their draws."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from numpyro.distributions import constraints
from scipy import integrate, stats

from jensen._base.errors import UndefinedError
from jensen._core import total
from jensen._families import FullRank, MeanField, OnSupport
from jensen._math.precision import working
from jensen._model import LogDensity, build
from tests.zoo import MODELS


def on_support(support, base, shape=(), precision="double"):
    target = build(LogDensity(lambda z: jnp.sum(z["x"]), {"x": shape}, {"x": support}), {}, precision)
    return OnSupport(base, target.model.bijection)


def normal(mean, sd):
    return MeanField(np.array([mean]), np.log([sd]))


LINES = {
    "real": (constraints.real, (-np.inf, np.inf)),
    "positive": (constraints.positive, (0.0, np.inf)),
    "greater than": (constraints.greater_than(2.0), (2.0, np.inf)),
    "less than": (constraints.less_than(-1.0), (-np.inf, -1.0)),
    "interval": (constraints.interval(-2.0, 5.0), (-2.0, 5.0)),
    "unit interval": (constraints.unit_interval, (0.0, 1.0)),
    "circular": (constraints.circular, (-np.pi, np.pi)),
}


@pytest.mark.parametrize("name", LINES)
def test_integrates_to_one(name):
    support, (low, high) = LINES[name]
    with working("double"):
        q = on_support(support, normal(0.3, 0.8))
        density = jax.jit(lambda x: jnp.exp(q.log_prob({"x": x})))
        mass, error = integrate.quad(lambda x: float(density(x)), low, high, epsabs=1e-9, limit=200)
    assert error < 1e-6
    assert mass == pytest.approx(1.0, abs=1e-6)


def test_integrates_to_one_over_the_simplex():
    with working("double"):
        q = on_support(constraints.simplex, FullRank.from_factor(np.zeros(2), np.array([[0.7, 0], [0.3, 0.5]])), (3,))
        nodes, weights = np.polynomial.legendre.leggauss(200)
        u, w = 0.5 * (nodes + 1), 0.5 * weights
        first, second = u[:, None], (1 - u[:, None]) * u  # the triangle as an image of the square
        p = np.stack([np.broadcast_to(first, second.shape), second, 1 - first - second], axis=-1)
        density = jnp.exp(jax.vmap(jax.vmap(lambda x: q.log_prob({"x": x})))(p))
        mass = float(jnp.sum(density * (1 - u[:, None]) * w[:, None] * w))
    assert mass == pytest.approx(1.0, abs=1e-6)


def test_on_the_positive_line_it_is_the_log_normal():
    with working("double"):
        q = on_support(constraints.positive, normal(0.4, 0.6))
        points = np.array([0.1, 1.0, 7.0])
        ours = jax.vmap(lambda x: q.log_prob({"x": x}))(points)
        np.testing.assert_allclose(ours, stats.lognorm.logpdf(points, 0.6, scale=np.exp(0.4)), rtol=1e-12)
        # 2·10⁵ draws, one z-score below 4: a false alarm in 0.006 % of keys; the key is fixed.
        draws = jax.jit(jax.vmap(lambda key: q.draw(key).value["x"]))(jr.split(jr.key(0), 200_000))
        law = stats.lognorm(0.6, scale=np.exp(0.4))
        assert abs(draws.mean() - law.mean()) < 4 * law.std() / np.sqrt(200_000)


@pytest.mark.parametrize("name", ["eight_schools", "simplex_plate", "corr_cholesky", "covariance", "bounds_from_data"])
def test_draws_carry_the_density_at_their_value(name):
    target = build(MODELS[name].model, MODELS[name].data, "double")
    with working("double"):
        base = MeanField(np.full(target.dim, 0.1), np.full(target.dim, -0.5))
        q = OnSupport(base, target.model.bijection)
        draw = q.draw(jr.key(1))
        assert q.noise_dim == target.dim
        assert {k: v.shape for k, v in draw.value.items()} == MODELS[name].latents
        assert float(draw.log_prob) == pytest.approx(float(q.log_prob(draw.value)), rel=1e-8)
        point, log_det = target.model.bijection.inverse(draw.value)
        assert float(draw.log_prob) == pytest.approx(float(base.log_prob(point) - log_det), rel=1e-8)
        assert float(draw.log_exact) == pytest.approx(float(base.log_prob(point)), rel=1e-8)
        assert float(q.exact_entropy()) == pytest.approx(float(base.entropy()))


def test_log_weights_do_not_depend_on_the_side_of_the_map_they_are_taken_on():
    target = build(MODELS["eight_schools"].model, MODELS["eight_schools"].data, "double")
    with working("double"):
        base = MeanField(np.zeros(5), np.zeros(5))
        draw = OnSupport(base, target.model.bijection).draw(jr.key(2))
        above = total(target.model.log_joint(draw.value)) - draw.log_prob
        u = base.draw(jr.key(2)).value
        assert float(above) == pytest.approx(float(target.model.log_density(u) - base.log_prob(u)), rel=1e-12)


def test_the_entropy_is_refused_not_approximated():
    with pytest.raises(UndefinedError, match="exact_entropy"):
        on_support(constraints.positive, normal(0.0, 1.0)).entropy()


def test_single_precision():
    with working("single"):
        base = MeanField(jnp.array([0.3]), jnp.array([-0.2]))
        q = on_support(constraints.positive, base, precision="single")
        draw = q.draw(jr.key(0))
        assert draw.value["x"].dtype == draw.log_prob.dtype == jnp.float32
        assert float(q.log_prob({"x": jnp.asarray(2.0)})) == pytest.approx(
            stats.lognorm.logpdf(2.0, np.exp(-0.2), scale=np.exp(0.3)), rel=1e-5
        )
