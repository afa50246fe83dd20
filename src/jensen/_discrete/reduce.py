"""Sums over the values of a discrete latent, in log space."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jensen._base.typing import Array

Reduce = Callable[[Any, int, Any], Any]
"""(log weights, axis, key) -> their log sum along the axis, which stays with size one. Not every one needs the key."""


def log_sum(array: Any, axis: int, key: Any = None) -> Any:
    """log Σ exp along an axis, kept with size one. States of weight zero (-inf) have gradient zero, all of them too."""
    del key
    top = jax.lax.stop_gradient(jnp.max(array, axis=axis, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    mass = jnp.sum(jnp.exp(array - top), axis=axis, keepdims=True)
    some = mass != 0.0  # true for "not a number" as well, which must not be hidden
    return jnp.where(some, jnp.log(jnp.where(some, mass, 1.0)) + top, -jnp.inf)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _sampled(array: Any, axis: int, key: Any) -> Any:
    return log_sum(array, axis)


def _forward(array: Any, axis: int, key: Any) -> Any:
    return log_sum(array, axis), (array, key)


def _backward(axis: int, kept: Any, cotangent: Array) -> Any:
    array, key = kept
    noisy = array + jax.random.gumbel(key, array.shape, array.dtype)
    chosen = jnp.argmax(noisy, axis=axis, keepdims=True)
    shape = [1] * array.ndim
    shape[axis] = -1
    picked = chosen == jnp.arange(array.shape[axis]).reshape(shape)
    return jnp.where(picked, cotangent, 0.0).astype(array.dtype), None


_sampled.defvjp(_forward, _backward)


def sampling_log_sum(array: Any, axis: int, key: Any) -> Any:
    """The log sum, whose backward pass puts all weight on one state drawn in proportion to its weight.

    Differentiating a chain of such sums draws from the joint distribution of everything summed out: the last sum's
    state first, then each earlier one given the later ones (forward filtering, backward sampling). With the log sum's
    own derivative (a softmax) the same pass gives marginal probabilities.
    """
    return _sampled(array, axis, key)
