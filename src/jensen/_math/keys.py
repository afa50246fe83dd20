"""Random keys for purposes of their own, made by NumPy: a program for each way to split a key would have to compile."""

import zlib
from typing import Any

import jax
import jax.random as jr
import numpy as np
from jax.core import Tracer

HIGH = 1 << 31
"""`split(key, n)[i]` is `fold_in(key, i)`: what is folded in beyond every n is independent of all splits of the key."""
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def purpose_key(seed: Any, purpose: str) -> Any:
    """The key of a seed for a purpose, which no split of `jax.random.key(seed)` gives.

    Example:
        >>> import jax.random as jr
        >>> from jensen._math.keys import purpose_key
        >>> bool((jr.key_data(purpose_key(0, "race")) == jr.key_data(jr.split(jr.key(0), 1000))).all(axis=1).any())
        False
    """
    return fold_in(jr.key(seed), HIGH | zlib.crc32(purpose.encode()))


def split(key: Any, count: int) -> Any:
    """`jax.random.split(key, count)`, to the bit, outside compiled programs."""
    return _threefry(key, np.arange(count, dtype=np.uint32)) if _plain(key) else jr.split(key, count)


def split_in(key: Any, count: int, size: int) -> list[Any]:
    """The keys of `split(key, count)` in parts of at most `size`, cut in NumPy."""
    keys = split(key, count)
    impl, words = jr.key_impl(keys), np.asarray(jr.key_data(keys))
    parts: list[Any] = [words[at : at + size] for at in range(0, count, size)]
    return [jr.wrap_key_data(part, impl=impl) for part in parts]


def fold_in(key: Any, number: int) -> Any:
    """`jax.random.fold_in(key, number)`, to the bit, outside compiled programs."""
    return _threefry(key, np.asarray(number, np.uint32)) if _plain(key) else jr.fold_in(key, number)


def pair(key: Any) -> tuple[Any, Any]:
    """Both keys of `split(key, 2)`."""
    return fold_in(key, 0), fold_in(key, 1)


def host_keys(seed: int, purpose: str, count: int) -> np.ndarray:
    """Key data (count, 2) for a purpose."""
    rng = np.random.default_rng([seed % 2**64, zlib.crc32(purpose.encode())])
    return rng.integers(0, 2**32, (count, 2), dtype=np.uint32)


def _plain(key: Any) -> bool:
    """Whether a key is a number, of the generator that `_threefry` is."""
    known = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return known and not isinstance(key, Tracer) and np.shape(key) == () and "fry" in str(jr.key_impl(key))


def _threefry(key: Any, numbers: np.ndarray) -> Any:
    """Threefry-2x32 with 20 rounds of the counts (0, number) (Salmon, Moraes, Dror and Shaw 2011)."""
    first, second = (np.uint32(word) for word in np.asarray(jr.key_data(key)))
    words = first, second, first ^ second ^ np.uint32(0x1BD11BDA)
    with np.errstate(over="ignore"):
        x, y = np.full_like(numbers, first), numbers + second
        for turn in range(5):
            for bits in _ROTATIONS[turn % 2]:
                x = x + y
                y = x ^ ((y << np.uint32(bits)) | (y >> np.uint32(32 - bits)))
            x, y = x + words[(turn + 1) % 3], y + words[(turn + 2) % 3] + np.uint32(turn + 1)
    return jr.wrap_key_data(np.stack([x, y], axis=-1), impl="threefry2x32")  # type: ignore[arg-type]
