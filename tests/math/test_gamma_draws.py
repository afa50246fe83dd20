"""Derivatives of gamma draws in the shape: against JAX's own, which sums until it has converged, and a quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from jensen._math.gamma_draws import log_gamma_draw, log_gamma_draws, log_slope
from jensen._math.precision import working

SHAPES = np.concatenate([np.logspace(-3, 6, 60), np.linspace(0.5, 5.0, 50)])
LEVELS = np.array([1e-6, 1e-3, 0.05, 0.2, 0.5, 0.8, 0.95, 0.999, 1 - 1e-6])


def grid():
    """Shapes, and values at these levels of their distribution function, as far as these are numbers."""
    shape, level = (a.reshape(-1) for a in np.meshgrid(SHAPES, LEVELS, indexing="ij"))
    value = special.gammaincinv(shape, level)
    return shape[value > 1e-250], value[value > 1e-250]


@pytest.fixture(scope="module")
def compared():
    with working("double"):
        shape, value = grid()
        program = jax.jit(lambda k, z: (log_slope(jnp.log(z), k), jax.vmap(jax.lax.random_gamma_grad)(k, z) / z))
        return [np.asarray(x) for x in program(shape, value)]


def test_it_is_the_derivative_that_jax_sums(compared):
    ours, known = compared
    assert np.abs(ours / known - 1).max() < 1e-9


def test_two_per_cent_would_be_seen(compared):
    ours, known = compared
    assert np.abs(1.02 * ours / known - 1).min() > 1e-2


@pytest.mark.parametrize(("shape", "value"), [(0.3, 1e-3), (0.7, 5.0), (1.99, 3.9), (2.01, 0.2), (30.0, 45.0)])
def test_it_is_minus_the_slope_of_the_distribution_over_the_density(shape, value):
    """∂_k F = ∫_0^z (log t - ψ(k)) p(t; k) dt, with t = z e^-s, where the series and the nodes have their borders."""

    def inside(s):
        t = value * np.exp(-s)
        return t * (np.log(t) - special.digamma(shape)) * stats.gamma.pdf(t, shape)

    slope = integrate.quad(inside, 0, 60 / min(shape, 1.0), limit=1000, epsabs=0, epsrel=1e-11)[0]
    with working("double"):
        ours = float(log_slope(jnp.log(value), jnp.asarray(shape)))
    assert np.isclose(ours, -slope / (value * stats.gamma.pdf(value, shape)), rtol=1e-8)


def test_draws_are_those_of_jax_and_differentiable_twice():
    with working("double"):
        key, shape = jax.random.key(3), jnp.array([1e-3, 0.3, 1.9, 7.0, 1e4])
        np.testing.assert_array_equal(log_gamma_draw(key, shape), jax.random.loggamma(key, shape))
        # E[log z] = psi(k): its second derivative, at a shape where 4000 draws say it within 4 standard errors.
        second = jax.jit(jax.grad(jax.grad(lambda k: jnp.mean(log_gamma_draw(key, jnp.full(4000, k))))))(3.0)
        assert abs(second - special.polygamma(2, 3.0)) < 4 * 0.2 / np.sqrt(4000)


@pytest.mark.parametrize("shape", [0.05, 0.7, 3.0, 400.0])
def test_draws_of_whole_arrays_have_the_gamma_law(shape):
    """By Kolmogorov and Smirnov on 20,000 draws, at a level of 1e-3; small shapes through the law of log z."""
    with working("double"):
        log_values = np.asarray(log_gamma_draws(jax.random.key(1), jnp.full(20_000, shape)), float)
    places = special.gammainc(shape, np.exp(log_values))
    small = log_values < -600.0  # F(z) = z^k / Γ(k + 1) there, where z rounds to zero
    places = np.where(small, np.exp(shape * log_values - special.gammaln(shape + 1.0)), places)
    assert stats.kstest(places, "uniform").pvalue > 1e-3
    assert np.isfinite(log_values).all()
