"""The entries of A⁻¹ where A has some, from its factor: the derivative of log |A| (Takahashi, Fagan and Chen 1973).

From the last latents back to the first: with l below the root r of one that is eliminated, and w = Z l / r for the
inverse Z of what is left, its own column of the inverse is -w, and its variance r⁻² + lᵀ w / r.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular

from jensen._base.typing import Array, Scalar
from jensen._nested import tridiagonal
from jensen._nested.elimination import Elimination
from jensen._nested.factor import Factor, log_det, solve

HALVED = 200
"""Rows from which on half a block is taken apart once more."""


def inverse_entries(order: Elimination, factor: Factor) -> Array:
    """(N,) entries of the inverse of L₀ L₀ᵀ, the term of low rank left out."""
    count = len(order.keys)
    found = jnp.zeros(count + 2, factor.basis.dtype)
    if order.line.blocks == 1:
        found = found.at[order.blocks[0, 0]].set(_inverse(factor.blocks.diagonal[0]))
    else:
        found = found.at[order.blocks].set(jnp.stack(_of_blocks(factor.blocks)))
    found = found.at[count].set(0.0)
    stages = list(zip(order.stages, factor.roots, factor.below, strict=True))
    for stage, root, left in reversed(stages):
        k = left.shape[1]
        own = left / root[:, None]
        a, b = np.tril_indices(k)
        where = np.zeros((k, k), np.int32)
        where[a, b] = where[b, a] = np.arange(len(a))
        rest = found[stage.target][:, where]
        away = jnp.einsum("nij,nj->ni", rest, own)
        found = found.at[stage.off].set(-away).at[count].set(0.0)
        found = found.at[stage.diagonal].set(1.0 / root**2 + jnp.sum(own * away, axis=1))
    return found[:count]


def _inverse(root: Array) -> Array:
    """(L Lᵀ)⁻¹ of one block, in halves: products of matrices, which are fast, and no zeros multiplied."""

    def inverted(root: Array) -> Array:
        half = len(root) // 2
        if half < HALVED:
            return solve_triangular(root, jnp.eye(len(root), dtype=root.dtype), lower=True)
        first, last = inverted(root[:half, :half]), inverted(root[half:, half:])
        below = -last @ (root[half:, :half] @ first)
        return jnp.block([[first, jnp.zeros((half, len(last)), root.dtype)], [below, last]])

    def squared(lower: Array) -> Array:
        half = len(lower) // 2
        if half < HALVED:
            return lower.T @ lower
        below, last = lower[half:, :half], lower[half:, half:]
        side = last.T @ below
        return jnp.block([[squared(lower[:half, :half]) + below.T @ below, side.T], [side, squared(last)]])

    return squared(inverted(root))


def _of_blocks(factor: tridiagonal.Factor) -> tuple[Array, Array]:
    """Blocks of the inverse along and below the diagonal."""
    eye = jnp.eye(factor.diagonal.shape[1], dtype=factor.diagonal.dtype)

    def step(after: Array, one: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        root, left = one
        back = solve_triangular(root, eye, lower=True)
        weights = left @ back
        below = -after @ weights
        own = back.T @ back - weights.T @ below
        return own, (own, below)

    return lax.scan(step, jnp.zeros_like(factor.diagonal[0]), (factor.diagonal, factor.below), reverse=True)[1]


def held_log_det(order: Elimination, values: Array, factor: Factor) -> Scalar:
    """log |L₀ L₀ᵀ| as a function of the entries whose factor this is; its derivative is the inverse's entries."""

    @jax.custom_vjp
    def of(values: Array, factor: Factor) -> Scalar:
        del values
        return log_det(factor)

    def forward(values: Array, factor: Factor) -> tuple[Scalar, Factor]:
        return of(values, factor), factor

    def backward(factor: Factor, slope: Scalar) -> tuple[Array, Factor]:
        twice = 2.0 * inverse_entries(order, factor)
        once = twice.at[order.diagonal].multiply(0.5)
        return slope * once, jax.tree.map(jnp.zeros_like, factor)

    of.defvjp(forward, backward)
    bare = factor._replace(basis=factor.basis[:, :0], inner=factor.inner[:0, :0])
    return of(values, lax.stop_gradient(bare))


def held_root(order: Elimination, factor: Factor, slope: Array, root: Array) -> Array:
    """Where a gradient is zero, `root`, as a function of the gradient there; `factor` is that of the curvature."""

    @jax.custom_vjp
    def of(slope: Array, factor: Factor, root: Array) -> Array:
        del slope, factor
        return root

    def forward(slope: Array, factor: Factor, root: Array) -> tuple[Array, Factor]:
        del slope
        return root, factor

    def backward(factor: Factor, along: Array) -> tuple[Array, Factor, Array]:
        moved = solve(order, factor, along[:, None])[:, 0]
        return moved, jax.tree.map(jnp.zeros_like, factor), jnp.zeros_like(along)

    of.defvjp(forward, backward)
    return of(slope, lax.stop_gradient(factor), lax.stop_gradient(root))
