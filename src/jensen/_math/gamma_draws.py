"""Gamma draws whose derivative in the shape is computed side by side, without a loop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._math.gamma_functions import digamma

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


@partial(jax.jit, inline=True)
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
    counts, sums = np.arange(1.0, TERMS + 1.0), np.triu(np.ones((TERMS, TERMS)))  # x @ sums: the running sums of x
    grown = shape[..., None] + counts.astype(shape.dtype)
    terms = jnp.exp(counts * log_value[..., None] - jnp.log(grown) @ sums).astype(shape.dtype)
    total, slope = 1.0 + jnp.sum(terms, -1), -jnp.sum(terms * ((1.0 / grown) @ sums), -1)
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


def log_gamma_draws(key: PRNGKey, shape: Array) -> Array:
    """log z, z ~ Gamma(shape, 1), of a whole array at once; reverse-mode derivatives are refused.

    Marsaglia and Tsang (2000): Gamma(k + 1) is d v, v = (1 + c x)³ of a normal x, accepted with a probability above
    0.95; the array is drawn again until every entry has been accepted. Gamma(k) is Gamma(k + 1) U^(1/k), U uniform, in
    logarithms, which hold what a number would round to zero. JAX's own sampler has a key and a loop for each entry.
    """
    centre = shape + 2.0 / 3.0
    scale = jax.lax.rsqrt(9.0 * centre)

    def again(state: tuple[PRNGKey, Array, Array]) -> tuple[PRNGKey, Array, Array]:
        key, log_cube, missing = state
        key, first, second = jax.random.split(key, 3)
        x = jax.random.normal(first, shape.shape, shape.dtype)
        root = 1.0 + scale * x
        proposed = 3.0 * jnp.log(jnp.where(root > 0.0, root, 1.0))
        limit = 0.5 * x**2 + centre * (1.0 - jnp.exp(proposed) + proposed)
        fits = (root > 0.0) & (-jax.random.exponential(second, shape.shape, shape.dtype) < limit)
        return key, jnp.where(missing & fits, proposed, log_cube), missing & ~fits

    first, second = jax.random.split(key)
    start = first, jnp.zeros_like(shape), jnp.isfinite(shape) & (shape > 0.0)
    log_cube = jax.lax.while_loop(lambda state: jnp.any(state[2]), again, start)[1]
    return jnp.log(centre) + log_cube - jax.random.exponential(second, shape.shape, shape.dtype) / shape
