"""log ∫ exp f(z) dz for a field z whose log density is concave, by a Gaussian at the mode and draws of what it misses.

With mode m, precision H = -∂²f/∂z² = L Lᵀ there, and z = m + L⁻ᵀ ε,

    log ∫ exp f = f(m) - ½ log |H| + D/2 log 2π + log E exp r(ε),    r = f(z) - f(m) + ½ |ε|².

The first three terms are Laplace's approximation (Tierney and Kadane 1986). The last is the logarithm of an unbiased
estimate over fixed mirrored draws ε: zero for a Gaussian, and as smooth in θ as everything else.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jensen._base.typing import Array, Scalar
from jensen._nested.factor import Entries, Factor
from jensen._nested.order import Order
from jensen._nested.unsummed import Unsummed

MOST, FINAL, AT_ONCE = 60, 1e-7, 128
"""Newton steps at most, the predicted rise in nats that is near the mode, draws computed together."""
VARIES = 1e5
"""Variance of log weights, in squared nats, beyond which it is rounding of log densities that are beyond all digits."""
NODE, SHARE = 3.0 / 4.0, 16.0 / 27.0
"""Where along a draw the gradient is taken, and the gradient's share there of its mean."""


class _Climb(NamedTuple):
    """Where Newton's method is: latents, log density, the share to take of the next step, the precision's factor.

    And the next step, what it is to gain, and the largest damping that the curvature needed on the way.
    """

    z: Array
    value: Scalar
    length: Scalar
    factor: Factor
    move: Array
    rise: Scalar
    damping: Scalar
    count: Scalar


class Mode(NamedTuple):
    """A mode: (D,) latents, the factor of the precision next to it, and the damping on the way (zero where concave)."""

    z: Array
    factor: Factor
    damping: Scalar


def mode(density: Unsummed, start: Array, order: Order) -> Mode:
    """The field's mode by Newton's method from `start`, held constant by differentiation.

    A quadratic takes one step. Others take a last one when they are near: the mode is then exact to rounding. What
    follows looks at the log density there, so that the factor is that of the place before: a relative difference of the
    step in sd, in derivatives of the mode alone. Where the curvature is not positive definite it is damped (Levenberg);
    a step that does not rise is shortened. Everything is one loop, so that the program appears in it once.
    """

    def step(state: _Climb) -> _Climb:
        z = state.z + state.length * state.move
        value, slope = jax.value_and_grad(density)(z)
        factor, move, rise, damping = _newton(slope, order.precision(density, z), order)
        rises = value >= state.value - 1e-9 * (1.0 + jnp.abs(state.value))
        better = jnp.isfinite(value) & jnp.isfinite(rise) & rises
        length = jnp.where(better, jnp.minimum(1.0, 4.0 * state.length), 0.25 * state.length)
        here = _Climb(z, value, length, factor, move, rise, jnp.maximum(damping, state.damping), state.count + 1)
        back = state._replace(length=length, count=here.count)
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), here, back)

    def rising(state: _Climb) -> Array:
        return (state.count < MOST) & (state.rise > FINAL) & (state.length > 1e-8)

    start = lax.stop_gradient(start)
    if order.quadratic:
        factor = order.cholesky(order.precision(density, start))
        move = order.solve(factor, jax.grad(density)(start)[:, None])[:, 0]
        return lax.stop_gradient(Mode(start + move, factor, jnp.zeros((), start.dtype)))
    one = jnp.ones((), start.dtype)
    zero = order.nothing(start.dtype)
    far = jnp.inf * one
    first = _Climb(start, -far, one, zero, 0.0 * start, far, 0.0 * one, jnp.zeros((), int))
    found = lax.while_loop(rising, step, first)
    last = jnp.where(found.rise <= FINAL, found.move, 0.0)
    return lax.stop_gradient(Mode(found.z + last, found.factor, found.damping))


def _newton(slope: Array, entries: Entries, order: Order) -> tuple[Factor, Array, Scalar, Scalar]:
    """The factor of H, the step H⁻¹ g and the rise gᵀ H⁻¹ g, with as little damping as makes H positive definite."""

    def tried(state: Any) -> Any:
        damping = jnp.where(state[3] < 0.0, 0.0, jnp.maximum(1e-3, 10.0 * state[3]))
        factor = order.cholesky(entries, damping)
        move = order.solve(factor, slope[:, None])[:, 0]
        return factor, move, jnp.dot(slope, move), damping

    def failing(state: Any) -> Array:
        return jnp.isnan(state[2]) & (state[3] < 1e6)

    unknown, none = jnp.full((), jnp.nan, slope.dtype), jnp.full((), -1.0, slope.dtype)
    return lax.while_loop(failing, tried, (order.nothing(slope.dtype), jnp.zeros_like(slope), unknown, none))


def log_integral(density: Unsummed, near: Mode, noise: Array, order: Order) -> Scalar:
    """log ∫ exp f dz in nats; `noise` (D, n) is mirrored here, and n = 0 leaves Laplace's approximation.

    The mode's derivative is that of one Newton step more (the implicit function theorem), a quadratic's is not needed.
    """
    half_log_2pi = 0.5 * order.size * float(np.log(2.0 * np.pi))
    if order.quadratic:
        # f does not change with the mode, and the curvature is the same everywhere
        entries = order.precision(density, near.z)
        return density(near.z) - 0.5 * order.log_det_of(entries, near.factor) + half_log_2pi
    z = order.root(near.factor, jax.grad(density)(near.z), near.z)
    factor = order.cholesky(order.precision(density, z))
    value = density(z) - 0.5 * order.log_det(factor) + half_log_2pi
    return value + log_mean_weight(density, z, factor, noise, order) if noise.shape[1] else value


def log_mean_weight(density: Unsummed, mode: Array, factor: Factor, noise: Array, order: Order) -> Scalar:
    """log E exp r; in parts, where the latents are many in a line, and by cumulants, where they are many otherwise.

    A remainder that is a sum of parts s_1, ..., s_S, of which only neighbours depend on each other closely, has
    E exp r ≈ Π E exp(s_i + s_{i+1}) / Π E exp s_i, exact where the parts are a Markov chain in this sense: the
    spread of the weights is that of two parts, however many there are.
    """
    if order.parts == 1:
        found = remainders(density, mode, factor, noise, order)
        return by_cumulants(found) if order.many else jax.nn.logsumexp(found) - np.log(found.size)
    parts = remainders_in_parts(density, mode, factor, noise, order)
    pairs, inner = parts[1:] + parts[:-1], parts[1:-1]
    means = [jnp.sum(jax.nn.logsumexp(one, axis=1) - np.log(one.shape[1])) for one in (pairs, inner)]
    return means[0] - means[1]


def by_cumulants(found: Array) -> Scalar:
    """log E exp r of (2, n) mirrored values: E r + ½ var r.

    A sum over many latents is nearly Gaussian, and then this is exact, while the mean of a few weights exp r is far too
    small as soon as r varies by some nats. A variance beyond `VARIES` adds no more.
    """
    even, odd = 0.5 * (found[0] + found[1]), 0.5 * (found[0] - found[1])
    share = (jnp.mean(odd**2) + jnp.var(even)) / VARIES
    return jnp.mean(even) + 0.5 * VARIES * share / jnp.hypot(1.0, share)


def remainders(density: Unsummed, mode: Array, factor: Factor, noise: Array, order: Order) -> Array:
    """R at (D, n) noise and its mirror, (2, n)."""
    moved = order.solve_upper(factor, noise).T
    both = mode + jnp.stack([moved, -moved])
    values = lax.map(jax.checkpoint(density), both.reshape(-1, len(mode)), batch_size=AT_ONCE)
    return values.reshape(2, -1) - density(mode) + 0.5 * jnp.sum(noise**2, axis=0)


def remainders_in_parts(density: Unsummed, mode: Array, factor: Factor, noise: Array, order: Order) -> Array:
    """The same as sums over parts of the latents, (S, 2 n).

    Coordinate i has the share δ_i ∫ (∂_i f(m + t δ) + t (H δ)_i) dt over 0 < t < 1. At the mode the integrand begins
    with t²: one node of Gauss's quadrature with this weight is exact up to fourth order in δ.
    """
    moved, pulled = order.solve_upper(factor, noise), order.multiply(factor, noise)
    delta, pull = (jnp.concatenate([one, -one], axis=1).T for one in (moved, pulled))
    forces = SHARE * (slopes(density, mode + NODE * delta) + NODE * pull)
    return jax.vmap(order.in_parts)(delta * forces).T


def slopes(density: Unsummed, points: Array) -> Array:
    """Gradients (m, D) at (m, D) points, whose derivatives are the gradient of a derivative along one direction."""
    function, known = jax.closure_convert(density, points[0])
    many = lambda fn, *rows: lax.map(lambda one: fn(*one), rows)  # noqa: E731

    @jax.custom_vjp
    def of(points: Array, known: Any) -> Array:
        return many(jax.grad(lambda z: function(z, *known)), points)

    def backward(both: Any, along: Array) -> Any:
        def total(points: Array, known: Any) -> Scalar:
            push = lambda z, v: jax.jvp(lambda z: function(z, *known), (z,), (v,))[1]  # noqa: E731
            return jnp.sum(many(jax.checkpoint(push), points, along))

        return jax.grad(total, (0, 1))(*both)

    of.defvjp(lambda points, known: (of(points, known), (points, known)), backward)
    return of(points, known)
