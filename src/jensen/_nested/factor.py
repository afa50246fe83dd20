"""Cholesky factors of precisions in the order of an `Elimination`, with a term of low rank; all in JAX, differentiable.

A = P L₀ L₀ᵀ Pᵀ + U diag(c) Uᵀ = L Lᵀ with L = L₀ (1 + Q (T - 1) Qᵀ), where Q has the orthonormal columns of
L₀⁻¹ U = Q R and T Tᵀ = 1 + R diag(c) Rᵀ (the square root of Woodbury's formula): a soft sum to zero costs one solution.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._nested import tridiagonal
from jensen._nested.elimination import Elimination


class Entries(NamedTuple):
    """A symmetric matrix: (N,) entries of its lower triangle, and (D, q) columns with (q,) weights beside them."""

    values: Array
    columns: Array
    weights: Array


class Factor(NamedTuple):
    """L: for every stage the (n,) roots and the (n, k) entries below them, the blocks, (D, q) Q and (q, q) T."""

    roots: tuple[Array, ...]
    below: tuple[Array, ...]
    blocks: tridiagonal.Factor
    basis: Array
    inner: Array


def cholesky(order: Elimination, entries: Entries) -> Factor:
    """The factor; not a number where the matrix is not positive definite."""
    count = len(order.keys)
    ends = jnp.array([0.0, 1.0], entries.values.dtype)
    values = jnp.concatenate([entries.values[:count], ends])
    roots, below = [], []
    for stage in order.stages:
        root = jnp.sqrt(values[stage.diagonal])
        left = values[stage.off] / root[:, None]
        a, b = np.tril_indices(left.shape[1])
        values = values.at[stage.target].add(-left[:, a] * left[:, b])
        roots.append(root)
        below.append(left)
    blocks = values[order.blocks]
    own = Factor(tuple(roots), tuple(below), tridiagonal.cholesky(blocks[0], blocks[1]), *_none(entries.columns))
    if not entries.columns.shape[1]:
        return own
    turned = solve_lower(order, own, entries.columns)
    gram = turned.T @ turned + 1e-200 * jnp.eye(turned.shape[1])  # a column may be zero
    upper = jnp.linalg.cholesky(gram, symmetrize_input=False).T
    basis = jax.scipy.linalg.solve_triangular(upper, turned.T, lower=False, trans=1).T
    inner = jnp.linalg.cholesky(jnp.eye(len(upper)) + (upper * entries.weights) @ upper.T)
    return own._replace(basis=basis, inner=inner)


def nothing(order: Elimination, columns: int, dtype: Any) -> Factor:
    """Zeros in the shape of a factor with so many columns of low rank."""
    zeros = lambda *shape: jnp.zeros(shape, dtype)  # noqa: E731
    line = order.line
    blocks = tridiagonal.Factor(*(zeros(line.blocks, line.width, line.width) for _ in range(2)))
    roots = tuple(zeros(len(stage.own)) for stage in order.stages)
    below = tuple(zeros(*stage.near.shape) for stage in order.stages)
    return Factor(roots, below, blocks, zeros(order.size, columns), zeros(columns, columns))


def _none(columns: Array) -> tuple[Array, Array]:
    return columns[:, :0], jnp.zeros((0, 0), columns.dtype)


def log_det(factor: Factor) -> Scalar:
    """log |A|."""
    first = sum((jnp.sum(jnp.log(root)) for root in factor.roots), jnp.sum(jnp.log(jnp.diagonal(factor.inner))))
    return 2.0 * first + tridiagonal.log_det(factor.blocks)


def solve_lower(order: Elimination, factor: Factor, right: Array) -> Array:
    """L⁻¹ b; b is (D, m)."""
    for stage, root, left in zip(order.stages, factor.roots, factor.below, strict=True):
        own = right[stage.own] / root[:, None]
        right = right.at[stage.own].set(own)
        right = right.at[stage.near].add(-left[:, :, None] * own[:, None], mode="drop")
    right = order.line.put(tridiagonal.solve_lower(factor.blocks, order.line.placed(right)), right)
    return _turned(factor, right, lambda inner, x: jax.scipy.linalg.solve_triangular(inner, x, lower=True))


def solve_upper(order: Elimination, factor: Factor, right: Array) -> Array:
    """L⁻ᵀ b; b is (D, m)."""
    right = _turned(factor, right, lambda inner, x: jax.scipy.linalg.solve_triangular(inner, x, lower=True, trans=1))
    right = order.line.put(tridiagonal.solve_upper(factor.blocks, order.line.placed(right)), right)
    stages = list(zip(order.stages, factor.roots, factor.below, strict=True))
    for stage, root, left in reversed(stages):
        known = jnp.concatenate([right, jnp.zeros_like(right[:1])])[stage.near]
        own = (right[stage.own] - jnp.einsum("nk,nkm->nm", left, known)) / root[:, None]
        right = right.at[stage.own].set(own)
    return right


def multiply(order: Elimination, factor: Factor, right: Array) -> Array:
    """L b; b is (D, m)."""
    right = _turned(factor, right, lambda inner, x: inner @ x)
    found = order.line.put(tridiagonal.multiply(factor.blocks, order.line.placed(right)), jnp.zeros_like(right))
    for stage, root, left in zip(order.stages, factor.roots, factor.below, strict=True):
        own = right[stage.own]
        found = found.at[stage.own].add(root[:, None] * own)
        found = found.at[stage.near].add(left[:, :, None] * own[:, None], mode="drop")
    return found


def _turned(factor: Factor, right: Array, change: Callable[[Array, Array], Array]) -> Array:
    """1 + Q (T - 1) Qᵀ or what `change` makes of T, times b."""
    if not factor.basis.shape[1]:
        return right
    inside = factor.basis.T @ right
    return right + factor.basis @ (change(factor.inner, inside) - inside)


def solve(order: Elimination, factor: Factor, right: Array) -> Array:
    """A⁻¹ b; b is (D, m)."""
    return solve_upper(order, factor, solve_lower(order, factor, right))
