"""The entries of A⁻¹ where A has some, from its factor: the derivative of log |A| (Takahashi, Fagan and Chen 1973).

From the last latents back to the first: with l below the root r of one that is eliminated, and w = Z l / r for the
inverse Z of what is left, its own column of the inverse is -w, and its variance r⁻² + lᵀ w / r.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular

from jensen._typing import Array, Scalar
from jensen.models.nested import factor as factors
from jensen.models.nested import tridiagonal
from jensen.models.nested.elimination import Elimination
from jensen.models.nested.factor import Entries, Factor

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


class Held(NamedTuple):
    """log |A|; L⁻ᵀ ε and L ε of (D, n) standard normal ε, which are draws with precision A and A times them."""

    log_det: Scalar
    spread: Array
    pulled: Array


def held(order: Elimination, entries: Entries, factor: Factor, noise: Array) -> Held:
    """What an integral needs of A, as a function of its entries, whose factor is given.

    No factorisation is differentiated. The derivative of log |A| is the inverse's entries. Draws δ are carried along by
    the linear flow dδ = -½ A⁻¹ dA δ, which keeps them draws with precision A to first order, as dL would with another
    rotation: dδ δᵀ + δ dδᵀ = -A⁻¹ dA A⁻¹ on average. It costs one solution for all draws.
    """

    @jax.custom_vjp
    def of(entries: Entries, factor: Factor) -> Held:
        return forward(entries, factor)[0]

    def forward(entries: Entries, factor: Factor) -> Any:
        both = factors.solve_upper(order, factor, jnp.concatenate([noise, factor.basis], axis=1))
        spread, basis = both[:, : noise.shape[1]], both[:, noise.shape[1] :]
        pulled = factors.multiply(order, factor, noise)
        return Held(factors.log_det(factor), spread, pulled), (entries, factor, spread, basis)

    def backward(known: Any, slopes: Held) -> tuple[Entries, Factor]:
        entries, factor, spread, basis = known
        left = 0.5 * slopes.pulled
        if noise.shape[1]:
            left = left - 0.5 * factors.solve(order, factor, slopes.spread)
        # A⁻¹ = A₀⁻¹ - B (TᵀT - 1) Bᵀ with B = L⁻ᵀ Q, and A⁻¹ U = B T⁻¹ R
        square = factor.inner.T @ factor.inner - jnp.eye(basis.shape[1])
        apart = -slopes.log_det * basis @ square
        sides = (jnp.concatenate(both, axis=1) for both in ((left, apart), (spread, basis)))
        inverse = 2.0 * inverse_entries(order, factor)
        values = slopes.log_det * inverse.at[order.diagonal].multiply(0.5) + entries_of(order, *sides)
        seen = jax.scipy.linalg.solve_triangular(factor.inner, factor.upper, lower=True)
        a, b = (entries.columns.T @ side for side in (left, spread))
        columns = 2.0 * slopes.log_det * basis @ seen + left @ b.T + spread @ a.T
        weights = slopes.log_det * jnp.sum(seen**2, axis=0) + jnp.sum(a * b, axis=1)
        return Entries(values, columns * entries.weights, weights), jax.tree.map(jnp.zeros_like, factor)

    of.defvjp(forward, backward)
    return of(entries, lax.stop_gradient(factor))


def entries_of(order: Elimination, left: Array, right: Array) -> Array:
    """Derivatives of Σ aᵀ A b, over the columns of (D, m) a and b, with regard to the (N,) entries of A."""
    count = len(order.keys)
    both = jnp.concatenate([jnp.stack([left, right]), jnp.stack([right, left])], axis=2)  # A is symmetric
    a, b = jnp.concatenate([both, jnp.zeros_like(both[:, :1])], axis=1)
    found = jnp.zeros(count + 2, left.dtype)
    rows, columns = (order.line.placed(one[:-1]) for one in (a, b))
    own = jnp.einsum("gim,gjm->gij", rows, columns)
    below = jnp.einsum("gim,gjm->gij", jnp.roll(rows, -1, axis=0), columns)
    found = found.at[order.blocks].set(jnp.stack([own, below]))
    for stage in order.stages:
        found = found.at[stage.off].set(jnp.einsum("nm,nkm->nk", a[stage.own], b[stage.near]))
        found = found.at[stage.diagonal].set(jnp.sum(a[stage.own] * b[stage.own], axis=1))
    return found.at[order.diagonal].multiply(0.5)[:count]


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
        moved = factors.solve(order, factor, along[:, None])[:, 0]
        return moved, jax.tree.map(jnp.zeros_like, factor), jnp.zeros_like(along)

    of.defvjp(forward, backward)
    return of(slope, lax.stop_gradient(factor), lax.stop_gradient(root))
