"""Score-function gradients with several zero-mean controls, their coefficients from other draws."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen._typing import Array, LogWeights

RIDGE = 1e-6
"""Of the controls' own variance, so that a redundant control does no harm."""
STILL = 1e-6
"""Of a quantity's largest value, below which its spread over the draws is rounding and counts as none."""


def regressed(factor: Any, value: Array, local: Array, whole: LogWeights) -> Any:
    """The gradient of E[local · log q] in the leaves of one factor, with controls: a tree like the factor.

    For every leaf and row the products y = h · (local - mean of the others) are regressed on functions of mean zero:
    the scores h of the row's leaves; h times what the blanket leaves out (whole - local); and, where every leaf is one
    number for a row, the second-order terms (∂²q / ∂λ_i ∂λ_j) / q = h_i h_j + ∂_i h_j, which for a normal are its
    Hermite polynomials. The
    coefficients that correct one half of the draws come from the other half (nothing, not even a mean, is shared
    between them), so the mean does not move: fitted on the same draws they would shrink the gradient by (S - 2) / S
    and worse.

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
    plain = all(leaf.shape[1:] == rows for leaf in leaves)
    second = _second_order(factor, value, leaves) if plain else None
    out = []
    for position, h in enumerate(leaves):
        extra = (1,) * (h.ndim - local.ndim)
        free = [] if second is None else [*(o for at, o in enumerate(leaves) if at != position), *second[position]]
        weights = local.reshape(local.shape + extra), omitted.reshape(local.shape + extra)
        sides = []
        for part in (slice(None, local.shape[0] // 2), slice(local.shape[0] // 2, None)):
            y, own = _regressors(h[part], *(w[part] for w in weights))
            sides.append((y, jnp.stack([*own, *(control[part] for control in free)], axis=-1)))
        out.append(jnp.mean(_crossed(*sides), axis=0))
    return jax.tree.unflatten(tree, out)


def _regressors(h: Array, local: Array, omitted: Array) -> tuple[Array, list[Array]]:
    """The products to be explained and the controls made from the log weights; nothing but these draws enters."""
    draws = local.shape[0]
    y = h * (local - jnp.mean(local, axis=0)) * (draws / (draws - 1.0))
    gap = omitted - jnp.mean(omitted, axis=0)
    still = jnp.max(jnp.abs(gap), axis=0) <= STILL * jnp.max(jnp.abs(omitted), axis=0)
    return y, [h, h * jnp.where(still, 0.0, gap)]


def _second_order(factor: Any, value: Array, scores: list[Array]) -> list[list[Array]]:
    """For every leaf i the functions h_i h_j + ∂_j h_i of all leaves j."""
    leaves, tree = jax.tree.flatten(factor)

    def own_scores(parts: list[Array], one: Array) -> list[Array]:
        def log_prob(parts: list[Array]) -> Array:
            return jnp.sum(jax.tree.unflatten(tree, parts).log_prob(one))

        return jax.grad(log_prob)(parts)

    table: list[list[Array]] = [[] for _ in leaves]
    for j in range(len(leaves)):
        # Leaves move their own rows only, so one direction of ones gives every row's derivative.
        tangent = [jnp.ones_like(x) if at == j else jnp.zeros_like(x) for at, x in enumerate(leaves)]
        slopes = jax.vmap(lambda one, t=tangent: jax.jvp(lambda p: own_scores(p, one), (leaves,), (t,))[1])(value)
        for i, slope in enumerate(slopes):
            table[i].append(scores[i] * scores[j] + slope)
    return table


def _crossed(first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
    """Both halves less their controls, each with the coefficients of the other."""
    parts = [
        y - jnp.einsum("s...m,...m->s...", controls, _coefficients(*other))
        for (y, controls), other in ((first, second), (second, first))
    ]
    return jnp.concatenate(parts)


def _coefficients(y: Array, controls: Array) -> Array:
    """Least squares of y on the controls, (..., m); nothing where the controls do not vary but by rounding.

    Draws of a count whose rate is small are often all alike: what varies in one half may stand still in the other.
    """
    x = controls - jnp.mean(controls, axis=0)
    scale = jnp.sqrt(jnp.mean(x**2, axis=0))
    scale = jnp.where(scale > STILL * jnp.max(jnp.abs(controls), axis=0), scale, 0.0)
    x = x / jnp.where(scale > 0, scale, 1.0)
    gram = jnp.einsum("s...m,s...n->...mn", x, x) / x.shape[0]
    right = jnp.einsum("s...m,s...->...m", x, y - jnp.mean(y, axis=0)) / x.shape[0]
    m = x.shape[-1]
    solved = jnp.linalg.solve(gram + RIDGE * jnp.eye(m, dtype=x.dtype), right[..., None])[..., 0]
    return jnp.where(scale > 0, solved / jnp.where(scale > 0, scale, 1.0), 0.0)


def least_draws(factor: Any) -> int:
    """Draws below which the halves determine no coefficients."""
    count = len(jax.tree.leaves(eqx.filter(factor, eqx.is_inexact_array)))
    return 4 * (2 + 2 * count)
