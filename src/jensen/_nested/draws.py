"""Draws of every group's latents given the others: chains whose proposals are normal, and independent of where it is.

The proposals are those of the curvature at the mode, spread a little wider, so that the weights are bounded where the
tails are Gaussian, and a chain forgets where it began at the same rate from everywhere (Mengersen and Tweedie 1996).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jensen._base.typing import Array, PRNGKey
from jensen._nested.quadrature import Centre, Density, placed

FIRST, NEXT, WIDER = 10, 3, 1.2
"""Proposals before the first draw and before every other, and by how much they are spread wider than the curvature."""


def draws(density: Density, at: Centre, key: PRNGKey, count: int, quadratic: bool = False) -> Array:
    """`count` draws of the groups' latents, (m, G, k); of a quadratic they are independent."""
    key, like = _light(key), at.mode
    if quadratic:
        return placed(at, jax.random.normal(key, (count, *like.shape), like.dtype))

    def propose(_: Any, state: Any) -> Any:
        where, weight, key = state
        key, noise, chance = jax.random.split(key, 3)
        t = jax.random.normal(noise, like.shape, like.dtype)
        new = density(placed(at, WIDER * t))[0] + 0.5 * jnp.sum(t**2, axis=1)
        new = jnp.nan_to_num(new, nan=-jnp.inf, posinf=-jnp.inf, neginf=-jnp.inf)
        # the first that has a density is taken: the difference is infinite
        taken = jnp.log(jax.random.uniform(chance, weight.shape, weight.dtype)) < new - weight
        return jnp.where(taken[:, None], WIDER * t, where), jnp.where(taken, new, weight), key

    def draw(state: Any, proposals: Array) -> Any:
        state = lax.fori_loop(0, proposals, propose, state)
        return state, placed(at, state[0])

    start = (jnp.zeros_like(like), jnp.full(len(like), -jnp.inf, like.dtype), key)
    return lax.scan(draw, start, jnp.full(count, NEXT).at[0].set(FIRST))[1]


def _light(key: PRNGKey) -> PRNGKey:
    """A key of XLA's own generator, which compiles in a fifth of the time that JAX's takes."""
    words = jax.random.key_data(key)[:2]
    return jax.random.wrap_key_data(jnp.concatenate([words, words]), impl="unsafe_rbg")
