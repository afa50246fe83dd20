"""log ∫ p(rows of g, z_g | θ) dz_g for all groups at once, by adaptive Gauss-Hermite quadrature.

Nodes are placed around every group's conditional mode, in the scale of its curvature there (Liu and Pierce 1994). The
integral does not depend on where they are, so neither mode nor scale is differentiated.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jensen._base.typing import Array

Density: TypeAlias = Callable[[Array], tuple[Array, Array]]
"""(G, k) latents -> (G,) log densities of the groups, and that of what belongs to none."""

NEGLIGIBLE, MOST, FINAL = 1e-9, 40, 1e-2
"""Weight of a node that is left out, Newton steps at most, the squared distance in sd that is near a mode."""


class Centre(NamedTuple):
    """Where the nodes are placed: (G, k) modes and (G, k, k) triangular factors of the inverse curvature."""

    mode: Array
    factor: Array


class _Climb(NamedTuple):
    """Where the groups are on their way up: (G, k) latents, (G,) log densities and step lengths, what comes next."""

    z: Array
    value: Array
    length: Array
    factor: Array
    move: Array
    rise: Array
    count: Array


def nodes(per_axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (M, k) and log weights (M,): ∫ f(t) dt ≈ Σ exp(w) f(t), exact for polynomials times a standard normal.

    For one along each axis the k + 1 corners of a simplex, exact up to second order: where the groups are Gaussian,
    that is the integral, and its derivative with the nodes held.
    """
    if per_axis == 1:
        corners = np.linalg.qr(np.concatenate([np.ones((size + 1, 1)), np.eye(size + 1)[:, :size]], axis=1))[0]
        log_weight = 0.5 * size * (1.0 + np.log(2.0 * np.pi)) - np.log(size + 1.0)
        return np.sqrt(size + 1.0) * corners[:, 1:], np.full(size + 1, log_weight)
    t, w = np.polynomial.hermite_e.hermegauss(per_axis)
    share = w / w.sum()
    grid = np.array(list(itertools.product(range(per_axis), repeat=size)))
    kept = share[grid].prod(axis=1) > NEGLIGIBLE * share.max() ** size
    points = t[grid][kept]
    return points, (np.log(w)[grid].sum(axis=1))[kept] + 0.5 * (points**2).sum(axis=1)


def centre(density: Density, start: Array, quadratic: bool = False) -> Centre:
    """Every group's mode by damped Newton steps from `start`, and the curvature there; one step of a quadratic.

    The curvature at the start is one evaluation; near the modes it is all there is. A group whose step does not rise
    goes back and takes a shorter one. Everything is one loop, so that the program appears in it once.
    """
    groups, k = start.shape

    def total(z: Array) -> tuple[Array, Array]:
        values = density(z)[0]
        return jnp.sum(values), values

    def newton(z: Array) -> tuple[Array, Array, Array, Array]:
        slope, along, value = jax.linearize(jax.grad(total, has_aux=True), z, has_aux=True)
        columns = jax.vmap(lambda one: along(jnp.broadcast_to(one, z.shape)))(jnp.eye(k, dtype=z.dtype))
        factor = cholesky_of_positive_part(-jnp.moveaxis(columns, 0, -1))
        return slope, solve_upper(factor, solve_lower(factor, slope)), factor, value

    def step(state: _Climb) -> _Climb:
        z = state.z + state.length[:, None] * state.move
        slope, move, factor, value = newton(z)
        rise = jnp.sum(slope * move, axis=1)
        finite = jnp.isfinite(value) & jnp.isfinite(rise)
        better = finite & (value >= state.value - 1e-9 * (1.0 + jnp.abs(state.value)))
        length = jnp.where(better, jnp.minimum(1.0, 4.0 * state.length), 0.25 * state.length)
        here = _Climb(z, value, length, factor, move, rise, state.count + 1)
        back = state._replace(length=length, count=here.count)
        return jax.tree.map(lambda new, old: jnp.where(_like(better, new), new, old), here, back)

    def rising(state: _Climb) -> Array:
        return (state.count < MOST) & jnp.any((state.rise > FINAL) & (state.length > 1e-6))

    start = lax.stop_gradient(start)
    if quadratic:
        _, move, factor, _ = newton(start)
        return lax.stop_gradient(Centre(start + move, inverse_transposed(factor)))
    eye = jnp.broadcast_to(jnp.eye(k, dtype=start.dtype), (groups, k, k))
    one = jnp.ones(groups, start.dtype)
    first = _Climb(start, -jnp.inf * one, one, eye, jnp.zeros_like(start), jnp.inf * one, jnp.zeros((), int))
    found = lax.while_loop(rising, step, first)
    return lax.stop_gradient(Centre(found.z, inverse_transposed(found.factor)))


def _like(flags: Array, value: Array) -> Array:
    """Flags by group, shaped for `where` beside a value of the groups; a single value takes the new one."""
    return flags.reshape(flags.shape + (1,) * (value.ndim - 1)) if value.ndim else jnp.ones((), bool)


def log_integral(density: Density, at: Centre, points: Array, log_weights: Array) -> tuple[Array, Array]:
    """(log ∫ exp(density) dz of every group, what belongs to none), (G,) and a scalar, in nats."""
    values, rest = lax.map(jax.checkpoint(lambda t: density(placed(at, t))), points)
    return jax.nn.logsumexp(values + log_weights[:, None], axis=0) + log_det(at), rest[0]


def placed(at: Centre, t: Array) -> Array:
    """m + F t for every group; t is (k,) or (..., G, k)."""
    return at.mode + jnp.einsum("gij,j->gi" if t.ndim == 1 else "gij,...gj->...gi", at.factor, t)


def log_det(at: Centre) -> Array:
    """log |F| of every group."""
    return jnp.sum(jnp.log(jnp.diagonal(at.factor, axis1=1, axis2=2)), axis=1)


# ---- factors of many small matrices, entry by entry: one library call for each matrix would take far longer ---------


def cholesky_of_positive_part(matrix: Array) -> Array:
    """L with L Lᵀ ≈ `matrix`, (G, k, k); pivots that are not positive are replaced by their size."""
    k = matrix.shape[-1]
    rows: list[list[Array]] = [[jnp.zeros(matrix.shape[0], matrix.dtype)] * k for _ in range(k)]
    for j in range(k):
        pivot = matrix[:, j, j] - sum(rows[j][m] ** 2 for m in range(j))
        rows[j][j] = jnp.sqrt(jnp.maximum(jnp.abs(pivot), 1e-10))
        for i in range(j + 1, k):
            rows[i][j] = (matrix[:, i, j] - sum(rows[i][m] * rows[j][m] for m in range(j))) / rows[j][j]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def solve_lower(factor: Array, right: Array) -> Array:
    """L⁻¹ b for every group."""
    out: list[Array] = []
    for i in range(right.shape[-1]):
        out.append((right[:, i] - sum(factor[:, i, m] * out[m] for m in range(i))) / factor[:, i, i])
    return jnp.stack(out, axis=-1)


def solve_upper(factor: Array, right: Array) -> Array:
    """L⁻ᵀ b for every group."""
    k = right.shape[-1]
    out: dict[int, Array] = {}
    for i in reversed(range(k)):
        out[i] = (right[:, i] - sum(factor[:, m, i] * out[m] for m in range(i + 1, k))) / factor[:, i, i]
    return jnp.stack([out[i] for i in range(k)], axis=-1)


def inverse_transposed(factor: Array) -> Array:
    """L⁻ᵀ, a factor of (L Lᵀ)⁻¹ with a positive diagonal."""
    eye = jnp.eye(factor.shape[-1], dtype=factor.dtype)
    columns = [solve_upper(factor, jnp.broadcast_to(one, factor.shape[:2])) for one in eye]
    return jnp.stack(columns, axis=-1)
