"""Random keys for purposes of their own."""

import zlib
from typing import Any

import jax.random as jr
import numpy as np

HIGH = 1 << 31
"""`split(key, n)[i]` is `fold_in(key, i)`: what is folded in beyond every n is independent of all splits of the key."""


def purpose_key(seed: Any, purpose: str) -> Any:
    """The key of a seed for a purpose, which no split of `jax.random.key(seed)` gives.

    Example:
        >>> import jax.random as jr
        >>> from jensen.math.keys import purpose_key
        >>> bool((jr.key_data(purpose_key(0, "race")) == jr.key_data(jr.split(jr.key(0), 1000))).all(axis=1).any())
        False
    """
    return jr.fold_in(jr.key(seed), HIGH | zlib.crc32(purpose.encode()))


def host_keys(seed: int, purpose: str, count: int) -> np.ndarray:
    """Key data (count, 2) for a purpose, made by NumPy: nothing is compiled."""
    rng = np.random.default_rng([seed % 2**64, zlib.crc32(purpose.encode())])
    return rng.integers(0, 2**32, (count, 2), dtype=np.uint32)
