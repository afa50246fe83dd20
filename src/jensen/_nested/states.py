"""A series written by its innovations, as a field of the states that they make.

Where a program draws independent innovations z and adds them up, u = A z + b by a cumulative sum or a loop, every later
state depends on every innovation: the precision of z is dense. That of u is banded, as it is for a program written by
states. So the field's coordinates are u: z = A⁻¹ (u - b), log p(u) = log p(z) + log |A⁻¹|, and the program goes on
from u itself, without the loop. A⁻¹ has one entry for each of the last k states, an autoregression of order k. Its rows
are found from A v for a few directions v, by least squares, for every value of the other latents anew.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from jensen._base.typing import Array

if TYPE_CHECKING:
    from jensen._nested.unsummed import Unsummed

LAGS, SPARE = 3, 2
"""Lags of an autoregression at most, and directions beyond as many as have to be told."""
SAME = 1e-7
"""Relative differences that are rounding."""


class States(NamedTuple):
    """Which array of a field's program holds the states: a result of one of its equations; the lags that tell them."""

    equation: int
    result: int
    lags: int


def directions(lags: int, size: int) -> np.ndarray:
    """Innovations (m, D) from which as many lags are told."""
    return np.random.default_rng(9).normal(size=(lags + 1 + SPARE, size))


def band(tangents: Array, innovations: Array) -> Array:
    """A⁻¹ by its diagonals, (k + 1, D), from A v and v, each (m, D): v_t = Σ_i c_{i,t} (A v)_{t-i}."""
    lags = len(tangents) - 1 - SPARE
    shifted = jnp.stack([shift(tangents, i) for i in range(lags + 1)], axis=-1)  # (m, D, k + 1)
    size = tangents.shape[1]
    # before the first state there is none: its entry is zero
    none = (np.arange(size) < np.arange(1, lags + 1)[:, None])[..., None] * np.eye(lags + 1)[1:, None]
    system = jnp.concatenate([shifted, none.astype(tangents.dtype)]).transpose(1, 0, 2)
    right = jnp.concatenate([innovations, jnp.zeros((lags, size), tangents.dtype)]).T
    q, r = jnp.linalg.qr(system)
    return solve_triangular(r, jnp.einsum("tmk,tm->tk", q, right)[..., None])[..., 0].T


def shift(values: Array, lag: int) -> Array:
    """(..., D) values of so many places before, zero where there are none."""
    if not lag:
        return values
    return jnp.concatenate([jnp.zeros_like(values[..., :lag]), values[..., :-lag]], axis=-1)


def innovations(states: Array, offset: Array, diagonals: Array) -> Array:
    """z = A⁻¹ (u - b)."""
    apart = states - offset
    found = jnp.zeros_like(apart)
    for lag in range(len(diagonals)):
        found = found + diagonals[lag] * shift(apart, lag)
    return found


def states_of(program: Any, model: Any, point: np.ndarray, size: int) -> States | None:
    """The last array of states that the field's program goes on from alone; `None` where there is none.

    `program(fn)` is the compiled (model, point) -> fn(density, z), as `Probe.program`.
    """
    if point.dtype != np.float64:  # lags cannot be told from rounding
        return None
    every = directions(LAGS, size)
    places: list[tuple[int, int]] = []

    def pushed(density: "Unsummed", z: Array, moves: Array) -> Any:
        places[:] = density.arrays
        along = lambda z: jax.vmap(lambda v: jax.jvp(density.at_arrays, (z,), (v,))[1])(moves)  # noqa: E731
        return along(z), along(z + 1.0)

    run = program(pushed)
    here, there = jax.device_get(run(model, point, every))
    for index in range(len(places) - 1, -1, -1):
        one, other = here[:, index], there[:, index]
        if not (np.isfinite(one).all() and np.abs(one - other).max() <= SAME * np.abs(one).max() > 0.0):
            continue  # not affine
        lags = _lags(one, every)
        if lags:
            return States(*places[index], lags)
    return None


def _lags(tangents: np.ndarray, every: np.ndarray) -> int:
    """Of the shortest autoregression that these directions agree with; zero where there is none."""
    scale = np.abs(every).max()
    for lags in range(LAGS + 1):
        used = lags + 1 + SPARE
        found: Any = np.asarray(band(jnp.asarray(tangents[:used]), jnp.asarray(every[:used])))
        if not np.isfinite(found).all():
            return 0
        told = np.stack([innovations(v, 0.0 * v, found) for v in tangents])
        if np.abs(told - every).max() <= SAME * scale:
            return lags if np.abs(found[0]).min() > 0.0 else 0
    return 0
