"""Draws of a hierarchical family with estimates of log q(z): what bounds and importance weights are made of."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._hierarchical.family import Hierarchical
from jensen._math.keys import split_in
from jensen._math.programs import Program

LAMBDAS = 31
"""Draws of r, at least, beside the λ that z came from, wherever log q(z) is estimated after a fit."""
CHUNK = 512
"""Draws of one call, so that every number of draws shares its program."""


def weighed_draws(q: Hierarchical, key: Any, count: int, others: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(draws by site, (count, ...); estimates of log q(z) in nats with `others` draws of r beside the λ of each)."""
    run = Program(functools.partial(_drawn, others))
    parts = [jax.device_get(run(q, keys)) for keys in split_in(key, -(-count // CHUNK) * CHUNK, CHUNK)]
    draws = {name: np.concatenate([np.asarray(part[0][name]) for part in parts])[:count] for name in parts[0][0]}
    return draws, np.concatenate([np.asarray(part[1], float) for part in parts])[:count]


def _drawn(others: int, q: Hierarchical, keys: Any) -> Any:
    def one(key: Any) -> Any:
        first, second, third = jax.random.split(key, 3)
        point = q.mix(first).value
        value = q.given(point).values(second, pathwise=False)
        return value, jnp.sum(q.marginal(third, value, q.log_ratio(point, value), others)[0])

    return jax.lax.map(one, keys, batch_size=64)
