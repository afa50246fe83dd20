"""Gamma draws whose derivative in the shape is computed side by side, without a loop."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array, PRNGKey
from jensen.math.gamma_functions import digamma

SMALL_SHAPE, SMALL_VALUE, TERMS = 2.0, 4.0, 34
"""Where the power series of the distribution function is summed, and how far."""
NODES = 24
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(NODES)
_PLACES, _WEIGHTS = 0.5 * (_PLACES + 1.0), 0.5 * _WEIGHTS
DECAYED = 36.0
"""The exponent at which an integrand has ended."""


@jax.custom_jvp
def _attached(log_value: Array, shape: Array) -> Array:
    return log_value


@_attached.defjvp
def _attach(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    log_value, shape = primals
    change, shape_change = tangents
    attached = _attached(log_value, shape)  # so that the slope moves with the shape too
    return attached, change + log_slope(attached, shape) * shape_change


def log_gamma_draw(key: PRNGKey, shape: Array) -> Array:
    """log z, z ~ Gamma(shape, 1): the draws of `jax.random.loggamma`, differentiable in the shape.

    The derivative is the implicit one, ∂z/∂k = -∂_k F(z; k) / p(z; k) (Figurnov, Mohamed and Mnih 2018, equation 5), as
    JAX's own sampler has it at twenty times the cost; see `log_slope`.
    """
    return _attached(jax.lax.stop_gradient(jax.random.loggamma(key, jax.lax.stop_gradient(shape))), shape)


def log_slope(log_value: Array, shape: Array) -> Array:
    """∂ log z / ∂k of a gamma draw z at a fixed value of its distribution function, to nine digits in double precision.

    For small shapes and values by the power series F(z; k) = z^k e^-z / Γ(k + 1) Σ_n z^n / ((k + 1) ... (k + n)), else
    from ∂_k F = ∫_0^z (log t - ψ(k)) p(t; k) dt over the shorter tail. With t = z e^{∓s} the ratio to z p(z; k) is

        ∂ log z / ∂k = ∓∫_0^∞ (log z ∓ s - ψ(k)) exp(∓k s ± z (1 - e^{∓s})) ds,

    upper signs for z ≤ k; the exponent falls from zero without a turn, so that a few Gauss-Legendre nodes up to where
    it has fallen to -36 are enough.
    """
    value = jnp.exp(log_value)
    small = (shape < SMALL_SHAPE) & (value < SMALL_VALUE)
    centred = log_value - digamma(shape)
    series = _by_series(jnp.where(small, log_value, 0.0), jnp.where(small, shape, 1.0))
    # Kept where neither has a pole: what is not chosen must not make derivatives that are not numbers.
    integral = _by_quadrature(
        jnp.where(small, 4.0, value), jnp.where(small, 4.0, shape), jnp.where(small, 0.0, centred)
    )
    return jnp.where(small, series, integral)


def _by_series(log_value: Array, shape: Array) -> Array:
    value = jnp.exp(log_value)
    total, slope = jnp.ones_like(value), jnp.zeros_like(value)
    for n in range(TERMS, 0, -1):
        inverse = 1.0 / (shape + n)
        ratio = value * inverse
        total, slope = 1.0 + ratio * total, ratio * (slope - inverse * total)
    return -(total * (log_value - digamma(shape + 1.0)) + slope) / shape


def _by_quadrature(value: Array, shape: Array, centred: Array) -> Array:
    sign = jnp.where(value > shape, 1.0, -1.0)
    gap = jnp.abs(shape - value)
    end = 2.0 * DECAYED / (gap + jnp.sqrt(gap**2 + 2.0 * DECAYED * value))
    for _ in range(2):  # Newton's steps on a convex function
        grown = value * jnp.expm1(sign * end)
        end = end - (grown - sign * shape * end - DECAYED) / (sign * (grown + value) - sign * shape)
    places, weights = jnp.asarray(_PLACES, value.dtype), jnp.asarray(_WEIGHTS, value.dtype)
    s = (sign * end)[..., None] * places
    exponent = shape[..., None] * s - value[..., None] * jnp.expm1(s)
    return sign * end * jnp.sum(weights * (centred[..., None] + s) * jnp.exp(exponent), axis=-1)
