"""Where the components of a mixture prior begin: optima of single products, by many short ascents at once."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._ascent.moves import ADAM
from jensen._bounds import ELBO
from jensen._estimators import Mixed
from jensen._hierarchical.family import Hierarchical
from jensen._math.keys import purpose_key, split
from jensen._math.programs import Program
from jensen._model.native import NativeTarget

COUNT, STEPS, RATE = 32, 300, 0.1
REACHES = (1.0, 2.0, 4.0)
"""How far from λ₀ the ascents begin, in turn, in units of the factors' information."""
APART = 1.0
"""Difference of two products' means, in sds, from which on they count as two."""


@dataclass(frozen=True)
class Sighted:
    """ψ of distinct product optima, (K, D), highest bound first, and their bounds in nats."""

    points: np.ndarray
    bounds: np.ndarray


def sighted(target: NativeTarget, q: Hierarchical, recipes: Any, num_draws: int, seed: int) -> Sighted:
    """Stochastic ascent of the bound of q(z | λ) in λ alone, from `COUNT` places at once.

    A component of its own is worth about exp(bound) of its optimum, so the best of a multimodal posterior's optima
    are where the components of a mixture should be, and their softmax is what they should weigh.
    """
    rng = np.random.default_rng([seed, 61])
    starts = np.stack([REACHES[i % len(REACHES)] * rng.normal(size=q.dim) for i in range(COUNT)])
    run = Program(functools.partial(_climb, Mixed(recipes, num_draws)), heavy="middle")
    points, bounds = run(target.model, q, jnp.asarray(starts), split(purpose_key(seed, "scouts"), STEPS))
    target.gradients += COUNT * STEPS * num_draws
    points, bounds = np.asarray(points, float), np.asarray(bounds, float)
    fine = np.isfinite(bounds) & np.isfinite(points).all(axis=1)
    kept: list[int] = []
    for index in sorted(np.flatnonzero(fine), key=lambda i: -bounds[i]):
        if all(_apart(q, points[index], points[other]) > APART for other in kept):
            kept.append(int(index))
    return Sighted(points[kept], bounds[kept])


def _climb(estimator: Mixed, model: Any, q: Hierarchical, points: Any, keys: Any) -> Any:
    """Averages of the second half of the steps, and of the bounds there."""

    def bound(point: Any, key: Any) -> Any:
        return estimator(ELBO(), model, q.given(point), None, key)

    def body(carry: Any, key: Any) -> Any:
        points, state = carry
        values, slopes = jax.vmap(jax.value_and_grad(bound))(points, jr.split(key, points.shape[0]))
        update, new_state = jax.vmap(ADAM.update)(slopes, state)
        moved = points + RATE * jnp.asarray(update)
        fine = jnp.isfinite(moved).all(axis=1) & jnp.isfinite(values)
        points = jnp.where(fine[:, None], moved, points)
        state = jax.tree.map(lambda x, y: jnp.where(fine.reshape((-1,) + (1,) * (x.ndim - 1)), x, y), new_state, state)
        return (points, state), (points, values)

    start = (points, jax.vmap(ADAM.init)(points))
    _, (path, values) = jax.lax.scan(body, start, keys)
    half = path.shape[0] // 2
    return path[half:].mean(axis=0), values[half:].mean(axis=0)


def _apart(q: Hierarchical, first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of two products' means, in the larger of their sds."""
    a, b = q.given(jnp.asarray(first)), q.given(jnp.asarray(second))
    (ma, va), (mb, vb) = ((p.means(), p.variances()) for p in (a, b))
    gaps = [np.abs(np.asarray(ma[n] - mb[n])) / np.sqrt(np.maximum(np.maximum(va[n], vb[n]), 1e-12)) for n in ma]
    return max(float(np.max(gap, initial=0.0)) for gap in gaps)
