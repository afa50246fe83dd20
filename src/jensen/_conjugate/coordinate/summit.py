"""Whether the end of a climb is a maximum: curvature, a look around, and a look far out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DENSE, KRYLOV = 200, 20
"""Parameters up to which the whole Hessian is formed, and Lanczos steps beyond."""
NEAR = (1e-4, 1e-2, 1e-1)
"""How far the look around goes, in units of 1 + |x|."""
OUT = (1.0, 3.0, 10.0, 30.0)
"""How far the look out goes, in the same units."""
FLAT = 1e-6
"""Nats: a direction in which a quadratic that falls by less over 1 + |x| is looked along."""


class Summit:
    """The objective around points at which a climb has ended."""

    def __init__(self, objective: Callable[[Any], Any]):
        self._values = jax.jit(jax.vmap(objective))
        slope = jax.grad(objective)
        self._products = jax.jit(lambda x, rows: jax.vmap(lambda v: jax.jvp(slope, (x,), (v,))[1])(rows))

    def values(self, points: np.ndarray) -> np.ndarray:
        """The objective at every row; not a number counts as -∞."""
        found = np.asarray(self._values(jnp.asarray(points)), float)
        return np.where(np.isnan(found), -np.inf, found)

    def axes(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(eigenvalues, eigenvectors as rows) of the Hessian; Ritz pairs of a Krylov space where it is large."""
        size = len(x)
        basis = np.eye(size) if size <= DENSE else self._krylov(x)
        image = np.asarray(self._products(jnp.asarray(x), jnp.asarray(basis)), float)
        small = np.nan_to_num(basis @ image.T)
        values, vectors = np.linalg.eigh(0.5 * (small + small.T))
        return values, vectors.T @ basis

    def _krylov(self, x: np.ndarray) -> np.ndarray:
        """An orthonormal basis of span{v, Hv, H²v, ...}, which holds the extreme eigenvectors first (Lanczos)."""
        rows = [np.random.default_rng(0).normal(size=len(x))]
        rows[0] /= np.linalg.norm(rows[0])
        for _ in range(KRYLOV - 1):
            new = np.nan_to_num(np.asarray(self._products(jnp.asarray(x), jnp.asarray(rows[-1][None])), float)[0])
            for _ in range(2):
                new -= np.array(rows).T @ (np.array(rows) @ new)
            if np.linalg.norm(new) < 1e-12:
                break
            rows.append(new / np.linalg.norm(new))
        return np.array(rows)

    def higher(self, x: np.ndarray, value: float, vectors: np.ndarray, enough: float) -> np.ndarray | None:
        """A point nearby whose value is higher by `enough`; `None` where there is none, as around a maximum.

        Along the axes of largest curvature and at random: a minimum or saddle has no gradient either.
        """
        random = np.random.default_rng(1).normal(size=(4, len(x)))
        random /= np.linalg.norm(random, axis=1, keepdims=True)
        rows = np.concatenate([vectors[::-1][:4], random])
        size = 1.0 + np.linalg.norm(x)
        points = np.concatenate([x + sign * length * size * rows for length in NEAR for sign in (1.0, -1.0)])
        found = self.values(points)
        best = int(np.argmax(found))
        return points[best] if np.isfinite(found[best]) and found[best] > value + enough else None

    def endless(
        self, x: np.ndarray, value: float, axes: tuple[np.ndarray, np.ndarray], travelled: list[np.ndarray]
    ) -> bool:
        """Whether the objective never falls along some ray from here and does fall, or rises, along its line.

        So it is where a supremum lies at infinity, or at the edge of a parameter's support: -exp(-a) at any a.
        """
        size = 1.0 + np.linalg.norm(x)
        flat = axes[1][np.abs(axes[0]) * size**2 < FLAT][:DENSE]
        rows = [row / np.linalg.norm(row) for row in (*flat, *(-flat), *travelled) if np.linalg.norm(row) > 0]
        if not rows:
            return False
        lengths = size * np.array([*OUT, *(-np.array(OUT))])
        points = (x + lengths[:, None, None] * np.array(rows)[None]).reshape(-1, len(x))
        found = self.values(points).reshape(2, len(OUT), len(rows))
        eps = float(np.finfo(jnp.result_type(float)).eps)
        rounding = 4.0 * eps * (abs(value) + len(x) * lengths[: len(OUT), None])
        ahead = np.concatenate([np.full((1, len(rows)), value), found[0]])
        with np.errstate(invalid="ignore"):
            level = (np.diff(ahead, axis=0) >= -rounding).all(axis=0) & np.isfinite(found[0]).all(axis=0)
        uneven = (found[0] > value + rounding) | (found[1] < value - rounding)
        return bool((level & uneven.any(axis=0)).any())
