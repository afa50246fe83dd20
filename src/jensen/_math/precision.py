"""Working precision: float64 inside jensen, whatever the user's global flag says."""

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeAlias

import jax
import numpy as np

Precision: TypeAlias = Literal["double", "single"]


def default_precision() -> Precision:
    """`double` on CPU, `single` on accelerators, where float64 runs many times slower."""
    return "double" if jax.default_backend() == "cpu" else "single"


@contextlib.contextmanager
def working(precision: Precision) -> Iterator[None]:
    """Run JAX code in this precision; the caller's `jax_enable_x64` flag is back in force afterwards.

    Example:
        >>> import jax.numpy as jnp
        >>> with working("double"):
        ...     jnp.ones(1).dtype
        dtype('float64')
    """
    with jax.enable_x64(precision == "double"):
        yield


def float_type(precision: Precision) -> type:
    """NumPy's float type for a precision."""
    return np.float64 if precision == "double" else np.float32


def stored_in(tree: object) -> contextlib.AbstractContextManager[None]:
    """A context in the precision of a tree's own arrays, so that results read outside a fit are not cut short."""
    wide = any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(tree))
    return working("double") if wide else contextlib.nullcontext()
