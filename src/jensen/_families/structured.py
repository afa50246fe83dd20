"""Gaussians whose precision follows a graph: global-local arrows, chains, trees, and whatever else is sparse."""

import functools
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Flat, Float, Scalar, leaf
from jensen._families.gaussian import AbstractGaussian, normal_log_prob

Parents = tuple[tuple[int, ...], ...]


def _as_tuples(rows: Any) -> Parents:
    return tuple(tuple(int(i) for i in row) for row in np.asarray(rows).tolist())


class Schedule:
    """Arrays of a graph: parents (D, W) with D where there is none, and coordinates by level, none before its parents.

    Coordinates of one level do not depend on each other, so an arrow takes two or three steps and a chain D.
    """

    def __init__(self, parents: Parents):
        dim = len(parents)
        self.table = np.array([[p if p >= 0 else dim for p in row] for row in parents], int).reshape(dim, -1)
        self.present = self.table < dim
        level = np.full(dim + 1, -1)
        waiting = list(range(dim))
        while waiting:
            ready = [i for i in waiting if all(p < 0 or level[p] >= 0 for p in parents[i])]
            if not ready:
                raise ValueError("The graph of the parents has a cycle.")
            for i in ready:
                level[i] = 1 + max((level[p] for p in parents[i] if p >= 0), default=-1)
            waiting = [i for i in waiting if level[i] < 0]
        count = int(level.max()) + 1
        groups = [np.flatnonzero(level[:dim] == at) for at in range(count)]
        width = max(len(group) for group in groups)
        self.levels = np.full((count, width), dim)
        for at, group in enumerate(groups):
            self.levels[at, : len(group)] = group


@functools.lru_cache(maxsize=256)
def schedule(parents: Parents) -> Schedule:
    """The arrays, made once for a graph."""
    return Schedule(parents)


class Structured(AbstractGaussian):
    """u_i = m_i + Σ_{j ∈ pa(i)} a_ij (u_j - m_j) + s_i ε_i: a Gaussian with a sparse precision (I - A)ᵀ S⁻² (I - A).

    With the parents that symbolic elimination of a posterior's dependence graph gives (`eliminated`) it contains the
    exact posterior wherever that is Gaussian: effects given their hyperparameters form an arrow, states of a time
    series a chain (Tan and Nott 2018). D·W parameters instead of D², W the largest number of parents. The density is
    one parallel pass; a draw takes one step for each level of the graph.

    Attributes:
        loc: m (D,). log_scale: log s (D,). weights: a (D, W). parents: (D, W), -1 where there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> chain = Structured(jnp.zeros(3), jnp.zeros(3), 0.5 * jnp.ones((3, 1)), ((-1,), (0,), (1,)))
        >>> chain.covariance()[0].tolist()
        [1.0, 0.5, 0.25]
    """

    loc: Flat
    log_scale: Flat
    weights: Float[Array, "dim parents"]
    parents: Parents = eqx.field(static=True, converter=_as_tuples)

    @classmethod
    def from_covariance(cls, loc: np.ndarray, covariance: np.ndarray, parents: Parents) -> Self:
        """The closest of this graph: every coordinate's regression on its parents."""
        dim = len(parents)
        width = max((len(row) for row in parents), default=0)
        weights, variance = np.zeros((dim, width)), np.diag(covariance).astype(float).copy()
        for i, row in enumerate(parents):
            known = [p for p in row if p >= 0]
            if known:
                a = np.linalg.solve(covariance[np.ix_(known, known)], covariance[known, i])
                weights[i, : len(known)] = a
                variance[i] = max(covariance[i, i] - a @ covariance[known, i], 1e-12 * covariance[i, i])
        return cls(leaf(np.array(loc, float)), leaf(0.5 * np.log(variance)), leaf(weights), padded(parents, width))

    @property
    def noise_dim(self) -> int:
        """D."""
        return self.dim

    def transform(self, noise: Array) -> Flat:
        """Parents before children, a level at a time."""
        plan = schedule(self.parents)
        fresh = jnp.append(jnp.exp(self.log_scale) * noise, 0.0)
        weights = jnp.concatenate([jnp.where(plan.present, self.weights, 0.0), jnp.zeros((1, self.weights.shape[-1]))])
        table = np.concatenate([plan.table, np.full((1, plan.table.shape[1]), self.dim)])

        def step(moved: Array, group: Array) -> tuple[Array, None]:
            values = fresh[group] + jnp.sum(weights[group] * moved[jnp.asarray(table)[group]], axis=-1)
            return moved.at[group].set(values), None

        moved, _ = jax.lax.scan(step, jnp.zeros_like(fresh), jnp.asarray(plan.levels))
        return self.loc + moved[:-1]

    def whiten(self, value: Flat) -> Array:
        """The inverse of `transform`."""
        plan = schedule(self.parents)
        moved = jnp.append(value - self.loc, 0.0)
        explained = jnp.sum(jnp.where(plan.present, self.weights, 0.0) * moved[plan.table], axis=-1)
        return (moved[:-1] - explained) * jnp.exp(-self.log_scale)

    def half_log_det(self) -> Scalar:
        """Σ log s."""
        return jnp.sum(self.log_scale)

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats."""
        return normal_log_prob(self.whiten(value), self.half_log_det())

    def _host(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weights = np.where(schedule(self.parents).present, np.asarray(self.weights, float), 0.0)
        return np.asarray(self.loc, float), np.exp(np.asarray(self.log_scale, float)), weights

    def affine(self, shift: np.ndarray, scale: np.ndarray, dtype: type = np.float64) -> "Structured":
        """Shift + scale ∘ u, on the same graph."""
        loc, _, weights = self._host()
        scale = np.broadcast_to(np.asarray(scale, float), loc.shape)
        weights = weights * scale[:, None] / np.append(scale, 1.0)[schedule(self.parents).table]
        log_scale = np.asarray(self.log_scale, float) + np.log(scale)
        parts = (shift + scale * loc, log_scale, weights)
        moved, log_scales, given = (leaf(np.asarray(part, dtype)) for part in parts)
        return Structured(moved, log_scales, given, self.parents)

    def _root(self) -> np.ndarray:
        """(I - A)⁻¹ S, (D, D)."""
        return self.host_transform(np.eye(self.dim)).T - np.asarray(self.loc, float)[:, None]

    def covariance(self) -> np.ndarray:
        """Of u, (D, D)."""
        root = self._root()
        return root @ root.T

    def scales(self) -> np.ndarray:
        """Standard deviations."""
        return np.linalg.norm(self._root(), axis=1)

    def host_transform(self, noise: np.ndarray) -> np.ndarray:
        """`transform` for rows of ε."""
        loc, scales, weights = self._host()
        plan = schedule(self.parents)
        moved = np.zeros((len(noise), self.dim + 1))
        for level in plan.levels:
            group = level[level < self.dim]
            moved[:, group] = scales[group] * noise[:, group] + (weights[group] * moved[:, plan.table[group]]).sum(-1)
        return loc + moved[:, :-1]

    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q for rows."""
        loc, scales, weights = self._host()
        moved = np.concatenate([points - loc, np.zeros((len(points), 1))], axis=1)
        explained = (weights * moved[:, schedule(self.parents).table]).sum(-1)
        return normal_log_prob((moved[:, :-1] - explained) / scales, np.log(scales).sum())


def padded(parents: Parents, width: int) -> Parents:
    """All rows of one width."""
    return tuple((*row, *(-1,) * (width - len(row))) for row in parents)


def eliminated(adjacent: np.ndarray) -> Parents:
    """Parents from an undirected graph (D, D): coordinates leave in the order of fewest neighbours.

    Whoever leaves is regressed on its neighbours then, who become neighbours of each other (Rose 1970; minimum degree).
    """
    neighbours = [set(np.flatnonzero(row)) - {i} for i, row in enumerate(np.asarray(adjacent, bool))]
    parents: list[tuple[int, ...]] = [()] * len(neighbours)
    left = set(range(len(neighbours)))
    while left:
        i = min(left, key=lambda j: (len(neighbours[j]), j))
        around = neighbours[i]
        parents[i] = tuple(sorted(int(j) for j in around))
        for j in around:
            neighbours[j] |= around
            neighbours[j] -= {i, j}
        left.remove(i)
    return tuple(parents)
