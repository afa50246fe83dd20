"""log Γ and its derivative for positive arguments, several times faster than general ones.

x is shifted to y = x + s by Γ(x + s) = x (x + 1) ... (x + s - 1) Γ(x), and the asymptotic series in 1 / y is summed
(Abramowitz and Stegun 1964, 6.1.15, 6.1.41 and 6.3.18). With a = x (x + s - 1) the factors pair up as
(x + i)(x + s - 1 - i) = a + i (s - 1 - i), of which the reciprocals add up to (2 x + s - 1) / (a + i (s - 1 - i)).
Elementwise, without loops or branches, so that vector instructions serve.
"""

import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
"""B_2, B_4, ...; what is left out is below the rounding unit at the shift of each precision."""
SHIFTS = {4: (4, 4), 8: (8, 7)}
"""Bytes of a number -> (s, terms of the series)."""


def digamma(x: Array) -> Array:
    """ψ(x) = d log Γ(x) / dx for x > 0; -inf at 0 and NaN below."""
    x, shift, terms = _real(x)
    y = x + shift
    inverse = 1.0 / (y * y)
    series = _horner([BERNOULLI[j] / (2 * (j + 1)) for j in range(terms)], inverse) * inverse
    a = x * (x + (shift - 1.0))
    below = sum(1.0 / (a + i * (shift - 1 - i)) for i in range(shift // 2)) * (2.0 * x + (shift - 1.0))
    result = jnp.log(y) - 0.5 / y - series - below
    return jnp.where(x > 0, result, jnp.where(x == 0, -jnp.inf, jnp.nan))


def gammaln(x: Array) -> Array:
    """log Γ(x) for x > 0; inf at 0 and NaN below."""
    x, shift, terms = _real(x)
    y = x + shift
    inverse = 1.0 / (y * y)
    series = _horner([BERNOULLI[j] / (2 * (j + 1) * (2 * j + 1)) for j in range(terms)], inverse) / y
    a = x * (x + (shift - 1.0))
    below = sum(jnp.log(a + float(i * (shift - 1 - i))) for i in range(shift // 2))
    result: Array = (y - 0.5) * jnp.log(y) - y + 0.5 * np.log(2 * np.pi) + series - below
    return jnp.where(x > 0, result, jnp.where(x == 0, jnp.inf, jnp.nan))


def _real(x: Array) -> tuple[Array, int, int]:
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
    return (x, *SHIFTS.get(x.dtype.itemsize, SHIFTS[8]))


def _horner(coefficients: list[float], x: Array) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
