"""Draws of a field from its exact conditional, by Hamiltonian dynamics.

In coordinates ε in which the Gaussian is standard normal the log density is -½|ε|² + r(ε). The first term's dynamics is
a rotation and exact, so that steps are short only as far as r bends them (Shahbaba, Lan, Johnson and Neal 2014), in any
number of dimensions. A quarter of a turn forgets where a Gaussian began. Draws begin with one from the mode: it ends
where a Gaussian's draws do, but for what r has pushed back on the way. Draws of the Gaussian itself may lie where the
log density falls so steeply that no move from there is accepted: of many latents, some always do.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._nested.laplace import Mode
from jensen._nested.order import Order
from jensen._nested.unsummed import Unsummed

TRAJECTORIES, STEPS = 2, 4
"""Quarter turns of every draw after the first, and steps in each. What the first misses is left in those that are never
accepted: at nine in ten, one in a hundred."""
EXACT = 1e-6
"""Of a log density that counts as quadratic, what a draw may miss by rounding; one that misses more is not accepted."""


def draw(density: Unsummed, at: Mode, order: Order, key: PRNGKey) -> tuple[Array, Scalar]:
    """One draw (D,) and the share of trajectories that were accepted."""
    if order.quadratic:
        noise = jax.random.normal(key, (order.size, 1), at.z.dtype)
        drawn, top = at.z + order.solve_upper(at.factor, noise)[:, 0], density(at.z)
        left = density(drawn) - top + 0.5 * jnp.sum(noise**2)
        return drawn, jnp.where(jnp.abs(left) < EXACT * (1.0 + jnp.abs(top)), 1.0, 0.0)
    shape = (order.size, 1)
    turn = 0.5 * np.pi / STEPS
    cos, sin = np.cos(turn), np.sin(turn)

    def place(noise: Array) -> Array:
        return at.z + order.solve_upper(at.factor, noise)[:, 0]

    def missed(noise: Array) -> tuple[Scalar, Array]:
        """R and its gradient."""
        value, slope = jax.value_and_grad(density)(place(noise))
        pulled = order.solve_lower(at.factor, slope[:, None])
        return value + 0.5 * jnp.sum(noise**2), pulled + noise

    def moved(noise: Array, extra: Scalar, force: Array, speed: Array) -> Any:
        """A quarter of a turn from there: where it ends, and with what speed."""

        def step(_: int, moving: Any) -> Any:
            x, p, r, pull = moving
            p = p + 0.5 * turn * pull
            x, p = cos * x + sin * p, cos * p - sin * x
            r, pull = missed(x)
            return x, p + 0.5 * turn * pull, r, pull

        return lax.fori_loop(0, STEPS, step, (noise, speed, extra, force))

    def trajectory(state: Any, key: PRNGKey) -> Any:
        noise, extra, force, begun = state
        draw_key, accept_key = jax.random.split(key)
        speed = jax.random.normal(draw_key, shape, noise.dtype)
        there = moved(noise, extra, force, speed)
        gain = (there[2] - 0.5 * jnp.sum(there[0] ** 2 + there[1] ** 2)) - (extra - 0.5 * jnp.sum(noise**2 + speed**2))
        chance = jnp.exp(jnp.minimum(jnp.nan_to_num(gain, nan=-jnp.inf, posinf=-jnp.inf), 0.0))
        taken = jnp.where(begun, jax.random.uniform(accept_key) < chance, jnp.isfinite(there[2]))
        new = (there[0], there[2], there[3], True)
        return jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, state), jnp.where(begun, chance, 0.0)

    nothing = jnp.zeros(shape, at.z.dtype)
    start = (nothing, *missed(nothing), jnp.array(False))
    (noise, *_), chances = lax.scan(trajectory, start, jax.random.split(key, 1 + TRAJECTORIES))
    return place(noise), jnp.mean(chances[1:])
