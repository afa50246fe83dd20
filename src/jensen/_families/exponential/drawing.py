"""Many draws of a product of factors, a factor and a chunk at a time.

Random numbers take most of the compilation of whatever uses them. Here NumPy draws them, for families that can; for the
others they stand alone: a program per factor and chunk of draws, which factors of the same family and shapes share
whatever model they come from, and every number of draws.
"""

from functools import cache, partial
from typing import Any

import jax
import numpy as np

from jensen._families.exponential.contract import AbstractExponentialFactor
from jensen._families.exponential.product import Product
from jensen._math.keys import host_keys
from jensen._math.programs import Program

CHUNK = 1024
"""Draws that one call of a program makes where the factor is small."""
NUMBERS = 2**24
"""Scalars of a factor that one call draws."""


def draw_many(q: Product, count: int, seed: int) -> dict[str, np.ndarray]:
    """`count` independent draws: site -> array (count, ...), on the host.

    The same seed gives the same draws, and more draws begin with the same ones while the chunks are equally long.
    """
    values: dict[str, np.ndarray] = {}
    host = jax.device_get(q.factors)
    root = host_keys(seed, "factors", 1)[0]
    for place, (name, factor) in enumerate(q.factors.items()):
        length = _chunk(factor, count)
        program = _program(length)
        parts = []
        for start in range(0, count, length):
            index = np.array([place, start // length], np.uint32)
            rng = np.random.default_rng([seed % 2**64, *index.tolist()])
            drawn = host[name].host_draws(rng, length)
            parts.append(jax.device_get(program(factor, root, index)) if drawn is None else drawn)
        for site, drawn in zip(q.sites[name], zip(*parts, strict=True), strict=True):
            values[site] = (drawn[0] if len(drawn) == 1 else np.concatenate(drawn))[:count]
    return values


def _chunk(factor: AbstractExponentialFactor, count: int) -> int:
    """Draws per call: a power of two, as few as are needed and as memory allows."""
    scalars = max((int(np.size(leaf)) for leaf in jax.tree.leaves(factor)), default=1)
    allowed = max(1, NUMBERS // scalars)
    needed = 1 << max(count - 1, 0).bit_length()
    return min(CHUNK, 1 << (allowed.bit_length() - 1), max(needed, 16))


@cache
def _program(length: int) -> Program:
    return Program(partial(_drawn, length))


def _drawn(length: int, factor: AbstractExponentialFactor, root: Any, index: Any) -> tuple[Any, ...]:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(root), index[0]), index[1])
    return jax.vmap(factor.draw)(jax.random.split(key, length))
