"""NaN that a program takes for numbers in NumPy, before any of it is traced: `np.where(x > 0, a, b)`.

Such a program is traced twice, with its concrete arrays and with numbers in the place of their NaN. The second time it
is handed pairs: every function of NumPy is computed of both, and tests for NaN answer the second as they do the first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

TESTS = (np.isnan, np.isfinite, np.isinf)


class Escaped(Exception):
    """The program took the entries out of a pair: it is not known what it does with them."""


class Filled(NDArrayOperatorsMixin):
    """An array with NaN, `true`, and the same with numbers there, `held`, that NumPy and JAX compute with."""

    def __init__(self, true: Any, held: Any):
        self.true, self.held = np.asarray(true), np.asarray(held)

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        return self._out().__array__(*arguments, **options)

    def __jax_array__(self) -> Any:
        return jnp.asarray(self._out())

    def _out(self) -> np.ndarray:
        """The entries, for JAX or for NumPy itself, which could test NaN among them."""
        if self.true.dtype.kind == "f" and np.isnan(self.true).any():
            raise Escaped
        return self.held

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(leaf, jax.Array) for leaf in inputs):
            return getattr(jnp, ufunc.__name__)(*(jnp.asarray(one) for one in inputs), **options)
        test = ufunc in TESTS or (ufunc in (np.equal, np.not_equal) and inputs[0] is inputs[1])
        return _both(getattr(ufunc, method), inputs, options, test)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        del types
        return _both(func, args, kwargs, func.__name__.startswith("nan"))

    def __getitem__(self, index: Any) -> Any:
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(index)):
            return jnp.asarray(self)[index]
        return _both(lambda array, where: array[where], (self, index), {})

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.held)

    def __bool__(self) -> bool:
        return bool(self.held)

    def __int__(self) -> int:
        return int(self.held)

    __index__ = __int__

    def __float__(self) -> float:
        return float(self.held)

    def __getattr__(self, name: str) -> Any:
        """Attributes and methods of both."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "at":
            return jnp.asarray(self).at
        if name in ("shape", "ndim", "size", "dtype"):
            return getattr(self.held, name)
        if not callable(getattr(self.held, name)):
            return _both(lambda array: getattr(array, name), (self,), {})
        return lambda *given, **options: _both(lambda a, *g, **o: getattr(a, name)(*g, **o), (self, *given), options)


def _both(function: Callable[..., Any], inputs: Any, options: Any, test: bool = False) -> Any:
    """The results of a function for both, those for the first twice where it is a test."""
    with np.errstate(all="ignore"):
        one = function(*_mapped(_true, inputs), **_mapped(_true, options))
        other = one if test else function(*_mapped(_held, inputs), **_mapped(_held, options))
    return _paired(one, other)


def _paired(one: Any, other: Any) -> Any:
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)) and len(one) == len(other):
        return type(one)(_paired(a, b) for a, b in zip(one, other, strict=True))
    return Filled(one, other) if isinstance(other, (np.ndarray, np.generic)) else other


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(change, one) for one in value)
    if isinstance(value, dict):
        return {name: _mapped(change, one) for name, one in value.items()}
    return change(value)


def _true(value: Any) -> Any:
    return value.true if isinstance(value, Filled) else value


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Filled) else value
