"""Gradients in units of their own usual length, so that one huge gradient cannot hold an optimiser still."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jensen._base.typing import Array

PACE, WIDEST = 0.1, 3.0
"""Weight of the latest gradient in the running length, and how far above it, in nats, a gradient is let through."""


class Units(NamedTuple):
    """Running mean of the log lengths of the gradients so far, and whether one of them was not zero."""

    log_length: Array
    seen: Array


def in_running_units(divide: bool = True) -> optax.GradientTransformation:
    """g ↦ g / ℓ, shortened to a length of e³: log ℓ is the running mean of the log lengths, each cut at 3 above it.

    Adam takes the same steps in any fixed unit. Where draws far out have gradients of 10⁴⁷, its second moment would
    remember one of them for 10⁵ steps; a mean of logarithms forgets it in some thirty, and one alone hardly moves it.
    With `divide=False` long gradients are shortened alike and all others stay as they are.
    """

    def init(params: Any) -> Units:
        leaves = jax.tree.leaves(params)
        return Units(jnp.zeros((), jnp.result_type(*leaves) if leaves else float), jnp.zeros((), bool))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Units]:
        del params
        found = jnp.asarray(log_length(updates), state.log_length.dtype)
        some = found > -jnp.inf
        latest: Any = jnp.where(some, found, state.log_length)
        known: Any = jnp.where(state.seen, state.log_length, latest)
        new = known + PACE * jnp.minimum(latest - known, WIDEST)
        unit = jnp.maximum(new, latest - WIDEST) if divide else jnp.maximum(0.0, latest - WIDEST - new)
        return jax.tree.map(lambda g: g * jnp.exp(-unit).astype(g.dtype), updates), Units(new, state.seen | some)

    return optax.GradientTransformation(init, update)


def log_length(tree: Any) -> Array:
    """log ‖g‖ without overflow; -∞ for zero."""
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]))
    safe = jnp.where(largest > 0.0, largest, 1.0)
    squares = sum(jnp.sum((leaf / safe) ** 2) for leaf in leaves)
    return jnp.log(largest) + 0.5 * jnp.log(jnp.maximum(squares, 1.0))
