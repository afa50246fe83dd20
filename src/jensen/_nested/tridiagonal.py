"""Symmetric block-tridiagonal matrices, (G, b, b) along the diagonal and (G, b, b) below it; dense where G is one.

Every latent is one place in an order in which only neighbouring blocks depend on each other: a chain, a map cut into
strips, or all latents in one block. Everything is a loop over blocks, in O(G b³), with derivatives.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from jensen._base.typing import Array, Scalar


class Factor(NamedTuple):
    """L with L Lᵀ = A: its (G, b, b) triangular blocks, and (G, b, b) blocks below them, the last of which is zero."""

    diagonal: Array
    below: Array


def cholesky(diagonal: Array, below: Array) -> Factor:
    """The factor of A with `below[g]` in row g + 1, column g; not a number where A is not positive definite."""
    if len(diagonal) == 1:
        return Factor(jnp.linalg.cholesky(diagonal, symmetrize_input=False), jnp.zeros_like(diagonal))

    def step(taken: Array, both: tuple[Array, Array]) -> tuple[Array, Factor]:
        own, next_row = both
        root = jnp.linalg.cholesky(own - taken, symmetrize_input=False)
        left = solve_triangular(root, next_row.T, lower=True).T
        return left @ left.T, Factor(root, left)

    return lax.scan(step, jnp.zeros_like(diagonal[0]), (diagonal, below))[1]


def log_det(factor: Factor) -> Scalar:
    """log |A|."""
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor.diagonal, axis1=1, axis2=2)))


def solve_lower(factor: Factor, right: Array) -> Array:
    """L⁻¹ b; b is (G, b, m)."""
    if len(right) == 1:
        return solve_triangular(factor.diagonal[0], right[0], lower=True)[None]

    def step(taken: Array, one: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        root, left, own = one
        found = solve_triangular(root, own - taken, lower=True)
        return left @ found, found

    return lax.scan(step, jnp.zeros_like(right[0]), (factor.diagonal, factor.below, right))[1]


def solve_upper(factor: Factor, right: Array) -> Array:
    """L⁻ᵀ b; b is (G, b, m)."""
    if len(right) == 1:
        return solve_triangular(factor.diagonal[0], right[0], lower=True, trans=1)[None]

    def step(after: Array, one: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        root, left, own = one
        found = solve_triangular(root, own - left.T @ after, lower=True, trans=1)
        return found, found

    return lax.scan(step, jnp.zeros_like(right[0]), (factor.diagonal, factor.below, right), reverse=True)[1]


def multiply(factor: Factor, right: Array) -> Array:
    """L b; b is (G, b, m)."""
    found = jnp.tril(factor.diagonal) @ right
    return found.at[1:].add(factor.below[:-1] @ right[:-1]) if len(right) > 1 else found
