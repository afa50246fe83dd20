"""Many stochastic steps in one program, with the average of the later iterates."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jensen._base.typing import Array

Step = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any, Any]]
"""(q, state, key, batch) -> (q, state, bound, whether the step was finite and therefore taken)."""


def averaged(
    step: Step, q: Any, state: Any, keys: Any, batches: Any = None, count: Any = None
) -> tuple[Any, Any, Any, Any, Any]:
    """One step for each key: last q, state, average of the second half, bounds, and which steps were finite.

    Polyak and Juditsky (1992): the average of the iterates has a smaller variance than the last of them. With a `count`
    only so many of the keys are used, and bounds and flags after them are 0: one program for runs of every length.
    """
    steps = keys.shape[0] if count is None else count
    half = steps // 2

    def body(carry: Any, item: Any) -> Any:
        q, state, average = carry
        key, index, batch = item
        q, state, value, fine = step(q, state, key, batch)
        weight = (index >= half) / (steps - half)
        average = jax.tree.map(lambda a, x: a + weight * x, average, q)
        return (q, state, average), (value, fine)

    zero = jax.tree.map(jnp.zeros_like, q)
    over = keys, jnp.arange(keys.shape[0]), batches
    if count is not None:

        def turn(i: Any, held: Any) -> Any:
            carry, values, fine = held
            carry, (value, kept) = body(carry, jax.tree.map(lambda leaf: leaf[i], over))
            return carry, values.at[i].set(value), fine.at[i].set(kept)

        empty = jnp.zeros(keys.shape[0]), jnp.zeros(keys.shape[0], bool)
        (q, state, average), values, fine = jax.lax.fori_loop(0, count, turn, ((q, state, zero), *empty))
        return q, state, average, values, fine
    (q, state, average), (values, fine) = jax.lax.scan(body, (q, state, zero), over)
    return q, state, average, values, fine


def finite(value: Array, moved: Any) -> Array:
    """Whether a step's bound and every number of what it moved are finite."""
    return jnp.isfinite(value) & jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(moved)]))


def chosen(fine: Array, new: Any, old: Any) -> Any:
    """The new tree where the step was finite, else the old one."""
    return jax.tree.map(lambda x, y: jnp.where(fine, x, y), new, old)
