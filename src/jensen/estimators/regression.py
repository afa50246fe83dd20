"""Score-function gradients with several zero-mean controls, their coefficients from other draws."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array, LogWeights

RIDGE = 1e-6
"""Of the controls' own variance, so that a redundant control does no harm."""
COORDINATES = 6
"""Parameters of a row up to which all of its scores and second-order terms are controls."""


def regressed(factor: Any, value: Array, local: Array, whole: LogWeights) -> Any:
    """The gradient of E[local · log q] in the leaves of one factor, with controls: a tree like the factor.

    For every parameter λ_i of every row the products y = h_i · (local - its mean), h = ∂ log q / ∂λ, are regressed on
    functions of mean zero: h_i times what the blanket leaves out (whole - local), and, where a row has few parameters,
    all scores h_j of the row and the second-order terms (∂²q / ∂λ_i ∂λ_j) / q = h_i h_j + ∂_i h_j. In an exponential
    family these span h_i times the sufficient statistics, so the gradient of a conjugate factor has no variance given
    the other latents; for a normal they are its Hermite polynomials. The coefficients that correct a draw come from all
    the others, so the mean does not move (beyond the ridge, 10⁻⁶ of a control): fitted on the same draws they would
    shrink the gradient by (S - 2) / S and worse. The means taken off here do not matter, h_i being among the controls.

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
    found = jnp.mean(_left_out(*_regressors(h, local, omitted, second)), axis=0)
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
    return _like(jnp.mean(_left_out(y, controls), axis=0), leaves, tree, len(shape))


def _like(found: Array, leaves: list[Array], tree: Any, lead: int) -> Any:
    """A row's entries (*rows, M) back in leaves."""
    ends = np.cumsum([int(np.prod(leaf.shape[lead:], dtype=int)) for leaf in leaves])[:-1]
    parts = jnp.split(found, ends, axis=-1)
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)])


def _by_row(leaves: list[Array], shape: tuple[int, ...]) -> Array:
    """The leaves' entries side by side: shape + (M,)."""
    return jnp.concatenate([leaf.reshape(*shape, -1) for leaf in leaves], axis=-1)


def _regressors(h: Array, local: Array, omitted: Array, second: Array | None) -> tuple[Array, Array]:
    """The products to be explained, (draws, *rows, M), and their controls, (draws, *rows, M, m)."""
    y = h * (local - jnp.mean(local, axis=0))[..., None]
    left_out = h * (omitted - jnp.mean(omitted, axis=0))[..., None]
    if second is None:
        return y, jnp.stack([h, left_out], axis=-1)
    scores = jnp.broadcast_to(h[..., None, :], second.shape)
    return y, jnp.concatenate([scores, second, left_out[..., None]], axis=-1)


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


def _left_out(y: Array, controls: Array) -> Array:
    """y less its controls, (draws, ...), each draw with the least-squares coefficients of all the other draws.

    They come from one fit by deletion: c_{-s} = c - G⁻¹ x_s e_s / (1 - leverage_s), with G the controls' scatter and e
    the residuals. Controls that do not vary get nothing.
    """
    draws = y.shape[0]
    x = controls - jnp.mean(controls, axis=0)
    scale = jnp.sqrt(jnp.mean(x**2, axis=0))
    inverse = jnp.asarray(jnp.where(scale > 0, 1.0 / jnp.where(scale > 0, scale, 1.0), 0.0))
    x, controls = x * inverse, controls * inverse
    centred = y - jnp.mean(y, axis=0)
    gram = jnp.einsum("s...m,s...n->...mn", x, x) + draws * RIDGE * jnp.eye(x.shape[-1], dtype=x.dtype)
    spread = jnp.einsum("...mn,s...n->s...m", _inverse(gram), x)
    together = jnp.einsum("s...m,s...->...m", spread, centred)
    residual = centred - jnp.sum(together * x, axis=-1)
    leverage = 1.0 / draws + jnp.sum(spread * x, axis=-1)
    return y - jnp.sum((together - spread * (residual / (1.0 - leverage))[..., None]) * controls, axis=-1)


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
