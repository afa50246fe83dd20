"""Score-function gradients with several zero-mean controls, their coefficients from other draws."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, LogWeights
from jensen._families.native.contract import COORDINATES

RIDGE = 1e-6
"""Of the controls' own variance, so that a redundant control does no harm."""
FOLDS, LARGE = 4, 2 * 10**7
"""Folds of the draws; two where the controls of all of them would have more elements."""


def regressed(factor: Any, value: Array, local: Array, whole: LogWeights) -> Any:
    """The gradient of E[local · log q] in the leaves of one factor, with controls: a tree like the factor.

    For every parameter λ_i of every row the products y = h_i · (local - its mean), h = ∂ log q / ∂λ, are regressed on
    functions of mean zero: h_i times what the blanket leaves out (whole - local), and, where a row has few parameters,
    all scores h_j of the row and the second-order terms (∂²q / ∂λ_i ∂λ_j) / q = h_i h_j + ∂_i h_j. In an exponential
    family these span h_i times the sufficient statistics, so the gradient of a conjugate factor has no variance given
    the other latents; for a normal they are its Hermite polynomials. Everything that corrects a draw comes from other
    draws, means included, so the mean does not move: coefficients fitted on the same draws would shrink the gradient by
    (S - 2) / S and worse, and even leave-one-out ones are biased with the ridge that collinear controls need.

    Args:
        factor: a native factor.
        value: its draws, (draws, ...).
        local: log weights as the rows see them, (draws, *rows).
        whole: log weights in full, (draws,).
    """
    rows = local.shape[1:]
    omitted = whole.reshape(whole.shape + (1,) * len(rows)) - local

    def log_prob(parts: Any, one: Array) -> Array:
        return jnp.sum(parts.log_prob(one))

    leaves, tree = jax.tree.flatten(jax.vmap(lambda one: jax.grad(log_prob)(factor, one))(value))
    h = _by_row(leaves, local.shape)
    second = _second_order(factor, value, h) if h.shape[-1] <= COORDINATES else None
    found = _crossed(
        local.shape[0],
        2 * h.size * h.shape[-1],
        lambda train: _regressors(h, local, omitted, second, train),
    )
    return _like(found, leaves, tree, local.ndim)


def controlled(factor: Any, value: Array, slopes: Any) -> Any:
    """The mean of gradients through the draws, one for each draw, less what the scores explain: a tree like the factor.

    The scores h_j of a row have mean zero and are functions of its draw alone. Where log p - log q is quadratic in a
    normal's draw, given the other latents, they explain its gradient to the last digit. Coefficients come from the
    other draws. (Control variates for reparameterisation: Miller, Foti, D'Amour and Adams 2017, with a regression in
    the place of the curvature.)

    Args:
        factor: a native factor.
        value: its draws, (draws, ...).
        slopes: a tree like the factor, each leaf led by the draws.
    """
    leaves, tree = jax.tree.flatten(slopes)
    shape = (leaves[0].shape[0], *factor.rows)

    def log_prob(parts: Any, one: Array) -> Array:
        return jnp.sum(parts.log_prob(one))

    h = _by_row(jax.tree.leaves(jax.vmap(lambda one: jax.grad(log_prob)(factor, one))(value)), shape)
    y = _by_row(leaves, shape)
    controls = h[..., None]
    if h.shape[-1] <= COORDINATES:
        controls = jnp.broadcast_to(h[..., None, :], (*h.shape, h.shape[-1]))
    return _like(_crossed(shape[0], controls.size, lambda train: (y, controls)), leaves, tree, len(shape))


def _like(found: Array, leaves: list[Array], tree: Any, lead: int) -> Any:
    """A row's entries (*rows, M) back in leaves."""
    ends = np.cumsum([int(np.prod(leaf.shape[lead:], dtype=int)) for leaf in leaves])[:-1]
    parts = jnp.split(found, ends, axis=-1)
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)])


def _by_row(leaves: list[Array], shape: tuple[int, ...]) -> Array:
    """The leaves' entries side by side: shape + (M,)."""
    return jnp.concatenate([leaf.reshape(*shape, -1) for leaf in leaves], axis=-1)


def _regressors(h: Array, local: Array, omitted: Array, second: Array | None, train: Array) -> tuple[Array, Array]:
    """The products to be explained, (draws, *rows, M), and their controls, (draws, *rows, M, m).

    What is subtracted, so that products are small, comes from the draws that `train` counts.
    """
    y = h * (local - _mean(local, train))[..., None]
    left_out = h * (omitted - _mean(omitted, train))[..., None]
    if second is None:
        return y, jnp.stack([h, left_out], axis=-1)
    scores = jnp.broadcast_to(h[..., None, :], second.shape)
    return y, jnp.concatenate([scores, second, left_out[..., None]], axis=-1)


def _mean(values: Array, weights: Array) -> Array:
    """Over the draws, the first axis."""
    return jnp.tensordot(weights / jnp.sum(weights), values, 1)


def _second_order(factor: Any, value: Array, h: Array) -> Array:
    """h_i h_j + ∂_j h_i for all pairs of a row's parameters: (draws, *rows, M, M)."""
    leaves, tree = jax.tree.flatten(factor)
    rows = h.shape[1:-1]

    def own_scores(parts: list[Array], one: Array) -> Array:
        def log_prob(parts: list[Array]) -> Array:
            return jnp.sum(jax.tree.unflatten(tree, parts).log_prob(one))

        return _by_row(jax.grad(log_prob)(parts), rows)

    # Leaves move their own rows only, so one direction for all rows gives every row's derivative.
    directions = []
    for at, leaf in enumerate(leaves):
        extra = jnp.shape(leaf)[len(rows) :]
        for entry in np.ndindex(*extra):
            chosen = jnp.zeros(extra, jnp.result_type(leaf)).at[entry].set(1.0)
            ones = jnp.broadcast_to(chosen, jnp.shape(leaf))
            directions.append([ones if i == at else jnp.zeros_like(x) for i, x in enumerate(leaves)])

    def slopes(one: Array) -> Array:
        def along(tangent: list[Array]) -> Array:
            return jax.jvp(lambda parts: own_scores(parts, one), (leaves,), (tangent,))[1]

        return jnp.stack([along(tangent) for tangent in directions], axis=-1)

    return h[..., :, None] * h[..., None, :] + jax.vmap(slopes)(value)


def _crossed(draws: int, size: int, regressors: Any) -> Array:
    """The mean over the draws of y less its controls, with coefficients from other draws.

    The draws are dealt into folds; everything that corrects a fold, means included, comes from the other folds, so
    nothing here can move the mean. `regressors(train)` gives y and controls; `size` is the number of their elements.
    """
    most = FOLDS if size * FOLDS < LARGE else 2
    folds = next((k for k in range(most, 1, -1) if draws % k == 0), draws)
    train = 1.0 - np.kron(np.eye(folds), np.ones(draws // folds))

    def fold(train: Array) -> Array:
        y, controls = regressors(train)
        corrected = y - jnp.sum(_coefficients(y, controls, train) * controls, axis=-1)
        return jnp.tensordot(1.0 - train, corrected, 1)

    return jnp.asarray(jnp.sum(jax.vmap(fold)(jnp.asarray(train, jnp.result_type(float))), axis=0) / draws)


def _coefficients(y: Array, controls: Array, train: Array) -> Array:
    """Least squares of y on the controls over the draws that `train` counts; nothing where they do not vary."""
    x = controls - _mean(controls, train)
    scale = jnp.sqrt(_mean(x**2, train))
    inverse = jnp.where(scale > 0, 1.0 / jnp.where(scale > 0, scale, 1.0), 0.0)
    x = x * inverse
    weights = train / jnp.sum(train)
    gram = jnp.einsum("s,s...m,s...n->...mn", weights, x, x) + RIDGE * jnp.eye(x.shape[-1], dtype=x.dtype)
    right = jnp.einsum("s,s...m,s...->...m", weights, x, y - _mean(y, train))
    return jnp.einsum("...mn,...n->...m", _inverse(gram), right) * inverse


def _inverse(gram: Array) -> Array:
    """The inverses of many small positive definite matrices, (..., m, m), by Gauss-Jordan elimination side by side."""
    m = gram.shape[-1]
    left, right = gram, jnp.broadcast_to(jnp.eye(m, dtype=gram.dtype), gram.shape)
    for k in range(m):
        pivot = left[..., k, k][..., None]
        row, own = left[..., k, :] / pivot, right[..., k, :] / pivot
        others = (left[..., :, k] * (jnp.arange(m) != k))[..., None]
        keep = (jnp.arange(m) == k)[:, None]
        left = jnp.where(keep, row[..., None, :], left - others * row[..., None, :])
        right = jnp.where(keep, own[..., None, :], right - others * own[..., None, :])
    return jnp.asarray(right)


def least_draws(factor: Any, scores_only: bool = False) -> int:
    """Draws that determine the coefficients: some more than there are controls."""
    count = parameters(factor)
    if count > COORDINATES:
        return 8
    return 4 * (1 + count if scores_only else 2 + 2 * count)


def parameters(factor: Any) -> int:
    """Parameters of a row."""
    leaves = jax.tree.leaves(eqx.filter(factor, eqx.is_inexact_array))
    return sum(int(np.prod(np.shape(leaf)[len(factor.rows) :], dtype=int)) for leaf in leaves)
