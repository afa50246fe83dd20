"""Importance weights for a product of factors, with as many latents as possible integrated out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen.algorithms.coordinate.collapse import Weighable
from jensen.algorithms.coordinate.hybrid_solution import HybridSolution
from jensen.algorithms.coordinate.solution import Solution
from jensen.diagnostics.importance import Pool, weigh
from jensen.families.exponential import Product
from jensen.math.precision import working
from jensen.math.programs import Program

PILOT = 128
"""Draws on which the choices of what to integrate out are compared."""
CHOICES = 2


@dataclass(frozen=True, eq=False)
class Collapsed:
    """The latents that keep their draws, and how the others leave.

    The second half of a pool comes from q_j^β normalised, β < 1: for an exponential family the same family with its
    natural parameters times β, wider by 1/√β for a Gaussian. β tends to 1 as the dimension grows, so that both halves
    stay useful.
    """

    solution: Solution | HybridSolution
    way: Weighable

    @property
    def _elements(self) -> int:
        """Numbers that one log density works on: data, and the moments of what leaves."""
        model = self.way.plan.model
        leaving = sum(int(np.prod(shape)) for n in self.way.plan.out for shape in model.blocks[n].shapes.values())
        return 1 + leaving + sum(np.size(a) for a in jax.tree.leaves(self.way.arrays))

    @property
    def _batch(self) -> int:
        """Log densities that are computed side by side."""
        return int(np.clip(200_000 // self._elements, 1, 128))

    def size(self) -> int:
        """Draws in a pool: 4096 where the data are small, at least 256."""
        return int(2 ** np.clip(np.floor(np.log2(4e8 / self._elements)), 8, 12))

    def pool(self, seed: int, size: int | None = None) -> Pool:
        """Draw and weigh."""
        size = size or self.size()
        with working(self.solution.precision):
            own, q = np.arange(size) < size // 2, self.way.q
            weigher = _weigher(self.way, self._batch)
            found = jax.device_get(weigher(q, tempered(q), self.way.arrays, split_keys(seed, size), own))
        values, log_joint, log_q, log_wide = found
        columns = [np.asarray(values[site], float).reshape(size, -1) for site in self.way.weighed]
        points = np.concatenate([np.zeros((size, 1)), *columns], axis=1)
        return weigh(points, log_joint, log_q, np.logaddexp(log_q, log_wide) - np.log(2.0))

    def draws(self, points: np.ndarray, sites: list[str], seed: int) -> dict[str, np.ndarray]:
        """The draws of these sites at points of a pool."""
        blocks, infos = self.way.plan.model.blocks, self.solution.infos
        values, start = {}, 1
        for name in self.way.weighed:
            shape = infos[name].shape
            width = int(np.prod(shape, dtype=int))
            column = points[:, start : start + width].reshape(-1, *shape)
            values[name] = column.astype(np.int32) if infos[name].values is not None else column
            start += width
        wanted = tuple(n for n in self.way.plan.out if any(s in sites for s in blocks[n].sites))
        if wanted and self.way.plan.exact:
            with working(self.solution.precision):
                drawer = _conditional_drawer(self.way, wanted, self._batch)
                values |= jax.device_get(drawer(self.way.arrays, values, split_keys(seed, len(points))))
        return {name: value for name, value in values.items() if name in sites}


def collapsed(solution: Solution | HybridSolution, seed: int) -> Collapsed:
    """The choice of what leaves whose weights vary least on a small pool."""
    with working(solution.precision):
        found = [Collapsed(solution, way) for way in solution.weighables()]
    exact = [choice for choice in found if not choice.way.weighed]
    if exact or len(found) == 1:
        return (exact or found)[0]
    spreads = [float(np.std(choice.pool(seed, PILOT).log_ratios)) for choice in found[:CHOICES]]
    return found[int(np.argmin(np.where(np.isfinite(spreads), spreads, np.inf)))]


def tempered(q: Product) -> Product:
    """Every factor to a power below one, as low as its domain and the number of its latents allow."""
    scalars = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(q))
    lowest = max(0.5, 1.0 - 1.5 / np.sqrt(max(scalars, 1)))
    factors = {}
    for name, factor in q.factors.items():
        for power in (lowest, 0.5 * (1.0 + lowest), 0.25 * (3.0 + lowest), 1.0):
            wide = eqx.tree_at(lambda f: f.natural, factor, jax.tree.map(lambda a, p=power: p * a, factor.natural))
            if power == 1.0 or bool(jnp.all(wide.contains())):
                factors[name] = wide
                break
    return Product(factors, q.blocks)


def _weigher(way: Weighable, batch: int) -> Any:
    def one(q: Product, wide: Product, arrays: Any, key: Any, own: Any) -> Any:
        values = jax.tree.map(lambda a, b: jnp.where(own, a, b), q.sample(key), wide.sample(key))
        return values, way.log_joint(values, arrays), q.log_prob(values), wide.log_prob(values)

    def program(q: Product, wide: Product, arrays: Any, keys: Any, own: Any) -> Any:
        keys = jax.random.wrap_key_data(keys)
        return jax.lax.map(lambda item: one(q, wide, arrays, *item), (keys, own), batch_size=batch)

    return Program(program)


def _conditional_drawer(way: Weighable, wanted: tuple[str, ...], batch: int) -> Any:
    def one(arrays: Any, point: Any, key: Any) -> Any:
        naturals, model = way.conditionals(point, arrays), way.plan.model
        drawn = {}
        for i, name in enumerate(wanted):
            values = model.factor(name, naturals[name]).draw(jax.random.fold_in(key, i))
            drawn |= dict(zip(model.blocks[name].sites, values, strict=True))
        return drawn

    def program(arrays: Any, points: Any, keys: Any) -> Any:
        keys = jax.random.wrap_key_data(keys)
        return jax.lax.map(lambda item: one(arrays, *item), (points, keys), batch_size=batch)

    return Program(program)


def split_keys(seed: int, count: int) -> np.ndarray:
    """`count` keys as plain arrays, which compiled programs take."""
    return np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), count)))
