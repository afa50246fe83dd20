"""The arrays that a program is handed where it is not traced: NumPy's to NumPy, JAX's to JAX, and never written to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Given(np.ndarray):
    """A read-only array of the data, for a program that may have been written for NumPy or for JAX.

    A program is traced with its arrays as arguments. Those that it needs concretely (a size computed from them, say)
    come as these: NumPy can compute with them as ever, and what only JAX arrays can do (`x.at[i].set(v)`, an index or a
    factor that is traced, `x += 1` without writing to memory) works as well. Memory is jensen's own.
    """

    @property
    def at(self) -> Any:
        """The index helper of JAX arrays."""
        return jnp.asarray(self).at

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, (int, slice, str)) and _traced(index):
            return jnp.asarray(self)[index]
        return super().__getitem__(index)


def given(array: np.ndarray) -> Given:
    """The same memory as a `Given`."""
    out = array.view(Given)
    out.flags.writeable = False
    return out


def _traced(arguments: Any) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arguments))


def _method(name: str) -> Any:
    """A method of NumPy arrays, and that of JAX arrays where an argument is one."""
    plain = getattr(np.ndarray, name)

    def call(self: Given, *arguments: Any, **options: Any) -> Any:
        if _traced((arguments, options)):
            return getattr(jnp.asarray(self), name)(*arguments, **options)
        return plain(self, *arguments, **options)

    return call


for _name in ("choose", "clip", "compress", "dot", "repeat", "searchsorted", "take"):
    setattr(Given, _name, _method(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(Given, f"__i{_name}__", getattr(np.ndarray, f"__{_name}__"))  # a new array, as for JAX arrays
