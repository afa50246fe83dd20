"""Importance weights for a product of factors, with as many latents as possible integrated out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen.algorithms.coordinate.collapse import Collapse, collapses
from jensen.algorithms.coordinate.solution import Solution
from jensen.diagnostics.importance import Pool, weigh
from jensen.families.exponential import Product
from jensen.math.precision import working

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

    solution: Solution
    plan: Collapse

    @property
    def _q(self) -> Product:
        held = self.solution.held()
        return Product(
            {name: held.factors[name] for name in self.plan.kept},
            tuple((name, sites) for name, sites in held.blocks if name in self.plan.kept),
        )

    def described(self) -> tuple[list[str], list[str]]:
        """(sites with weights, sites that were integrated out)."""
        blocks = self.plan.model.blocks
        return [s for n in self.plan.kept for s in blocks[n].sites], [s for n in self.plan.out for s in blocks[n].sites]

    def size(self) -> int:
        """Draws in a pool: 4096 where the data are small, at least 256."""
        elements = sum(np.size(a) for a in self.plan.model.energy.arrays) + 1
        return int(2 ** np.clip(np.floor(np.log2(4e8 / elements)), 8, 12))

    def pool(self, seed: int, size: int | None = None) -> Pool:
        """Draw and weigh."""
        size = size or self.size()
        with working(self.solution.precision):
            q, wide = self._q, tempered(self._q)
            keys = jax.random.split(jax.random.key(seed), size)
            found = jax.device_get(_weighed(self.plan, q, wide, keys, self.plan.model.energy.arrays))
        values, log_joint, log_q, log_wide = found
        columns = [np.asarray(values[site], float).reshape(size, -1) for site in self.described()[0]]
        points = np.concatenate([np.zeros((size, 1)), *columns], axis=1)
        return weigh(points, log_joint, log_q, np.logaddexp(log_q, log_wide) - np.log(2.0))

    def draws(self, pool: Pool, sites: list[str]) -> dict[str, np.ndarray]:
        """The draws of these sites at the pool's points."""
        blocks, shapes = self.plan.model.blocks, self.plan.model.sites
        values, start = {}, 1
        for name in self.described()[0]:
            shape = shapes[name].shape
            width = int(np.prod(shape, dtype=int))
            column = pool.points[:, start : start + width].reshape(-1, *shape)
            values[name] = column.astype(np.int32) if shapes[name].values is not None else column
            start += width
        wanted = tuple(n for n in self.plan.out if any(s in sites for s in blocks[n].sites))
        if wanted and self.plan.exact:
            with working(self.solution.precision):
                keys = jax.random.split(jax.random.key(len(pool.points)), len(pool.points))
                arrays = self.plan.model.energy.arrays
                values |= jax.device_get(_conditional_draws(self.plan, wanted, values, keys, arrays))
        return {name: value for name, value in values.items() if name in sites}


def collapsed(solution: Solution, seed: int) -> Collapsed:
    """The choice of what leaves whose weights vary least on a small pool."""
    found = [Collapsed(solution, plan) for plan in collapses(solution.target.model, solution.parts)]
    exact = [choice for choice in found if not choice.plan.kept]
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


@eqx.filter_jit
def _weighed(plan: Collapse, q: Product, wide: Product, keys: Any, arrays: Any) -> Any:
    def one(key: Any, own: Any) -> Any:
        values = jax.tree.map(lambda a, b: jnp.where(own, a, b), q.sample(key), wide.sample(key))
        return values, plan.log_joint(values, arrays), q.log_prob(values), wide.log_prob(values)

    own = jnp.arange(len(keys)) < len(keys) // 2
    return jax.lax.map(lambda item: one(*item), (keys, own))


@eqx.filter_jit
def _conditional_draws(plan: Collapse, wanted: tuple[str, ...], values: Any, keys: Any, arrays: Any) -> Any:
    def one(item: Any) -> Any:
        point, key = item
        naturals = plan.conditionals(point, arrays)
        drawn = {}
        for i, name in enumerate(wanted):
            sites = plan.model.blocks[name].sites
            drawn |= dict(
                zip(sites, plan.model.factor(name, naturals[name]).draw(jax.random.fold_in(key, i)), strict=True)
            )
        return drawn

    return jax.lax.map(one, (values, keys))
