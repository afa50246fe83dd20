"""What a field's latents have to do with each other, found on the host from derivatives at generic points."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from jensen._base.typing import Array
from jensen._math.programs import Program
from jensen._nested.curvature import Curvature, along_pairs, products
from jensen._nested.elimination import Elimination, eliminated
from jensen._nested.pattern import NOTHING, Seen, colouring, pattern, seen
from jensen._nested.states import States
from jensen._nested.unsummed import Unsummed

NARROW, WIDE = 12, 8
"""Latents that a row may see for its second derivatives to be told in pairs; directions followed at once."""

Given = Callable[[Any, Array], Any]
"""(model, point of all latents) -> log density of the field, and the field there."""


class Probe:
    """Derivatives of a field's rows at a few generic points of all latents, (n, total).

    `given(model, point)` is the log density as a function of the field, and the field at this point.
    """

    def __init__(self, given: Given, model: Any, points: np.ndarray, states: States | None = None):
        self.model, self.points = model, points

        def read(model: Any, point: Array) -> tuple[Unsummed, Array]:
            density, z = given(model, point)
            return Unsummed(density, z, states), z

        def rows(model: Any, point: Array, directions: Array) -> Array:
            density, z = read(model, point)
            flat = lambda z: jnp.concatenate(density.rows(z))  # noqa: E731
            return jax.vmap(lambda v: jax.jvp(flat, (z,), (v,))[1])(directions)

        def sizes(model: Any, point: Array) -> list[Array]:
            density, z = read(model, point)
            self.work = density.work
            return [jnp.zeros(len(one)) for one in density.rows(z)]

        self._rows, self._read = Program(rows), read
        self.work = 0  # numbers that are computed for one value
        self.sizes = [len(one) for one in jax.eval_shape(sizes, model, points[0])]

    def rows(self, directions: np.ndarray) -> np.ndarray:
        """Largest sizes of the rows' derivatives over the points, (m, R)."""
        return self._largest(self._rows, directions)

    def products(self, which: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
        """The same of products with the second derivative of some arrays' sum, (m, D)."""
        program = self.program(lambda density, z, directions: products(density, z, which, directions))
        return lambda directions: self._largest(program, directions)

    def program(self, fn: Callable[..., Any]) -> Program:
        """(model, point, *arguments) -> fn(log density, field, *arguments)."""
        return Program(lambda model, point, *rest: fn(*self._read(model, point), *rest))

    def _largest(self, program: Program, directions: np.ndarray) -> np.ndarray:
        full = np.zeros((-(-len(directions) // WIDE) * WIDE, directions.shape[1]), self.points.dtype)
        full[: len(directions)] = directions
        found = []
        for begin in range(0, len(full), WIDE):
            some = [program(self.model, point, full[begin : begin + WIDE]) for point in self.points]
            found.append(np.max(np.abs(np.stack(jax.device_get(some))), axis=0))
        return np.concatenate(found)[: len(directions)].astype(float)


def affine(gradient: Callable[[np.ndarray], Any], points: np.ndarray, own: np.ndarray, eps: float) -> bool:
    """Whether the gradient with regard to the coordinates `own` is affine along generic lines of them, from points."""
    rng = np.random.default_rng(4)
    for point in points:
        move = np.zeros_like(point)
        move[own] = rng.normal(size=len(own))
        first, second, third = (np.asarray(gradient(point + t * move), float)[own] for t in (0.0, 1.0, 2.5))
        bend = np.abs((third - second) / 1.5 - (second - first)).max()
        if not bend <= 1e4 * eps * (np.abs([first, second, third]).max() + 1e-300):
            return False
    return True


def structured(probe: Probe, bounds: np.ndarray) -> tuple[Curvature, Elimination] | None:
    """Where the entries of the field's precision come from, and the order in which it is factorised; `None`: dense.

    `bounds`: where the field's sites begin, and D.
    """
    size, total = int(bounds[-1]), sum(probe.sizes)
    found = seen(probe.rows, total, bounds, NARROW)
    found = found or Seen(sparse.csr_matrix((total, size), dtype=bool), np.ones(total, bool))
    ends = np.cumsum([0, *probe.sizes])
    broad = [i for i, (a, b) in enumerate(pairwise(ends)) if found.wide[a:b].any()]
    narrow = tuple(i for i in range(len(probe.sizes)) if i not in broad)
    single = tuple(_single(probe, [i for i in broad if probe.sizes[i] == 1], size))
    wide = tuple(i for i in broad if not any(i in one for one in single))
    own = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in narrow]) if narrow else np.zeros(0, int)
    colours, pairs, take, row, column = _by_pairs(probe, narrow, sparse.csr_matrix(found.pattern[own]))
    directions = np.zeros((0, size))
    if wide:
        there = pattern(probe.products(wide), size)
        if there is None or 2 * there.nnz > size**2:
            return None
        directions, more = _by_products(there, size)
        take = np.concatenate([take, len(pairs) * len(own) + more[0]])
        row, column = np.concatenate([row, more[1]]), np.concatenate([column, more[2]])
    every = np.arange(size)
    graph = (np.ones(2 * len(row) + size, bool), (np.r_[row, column, every], np.r_[column, row, every]))
    order = eliminated(sparse.csr_matrix(graph, shape=(size, size)))
    slot = order.slots(row, column)
    by_slot = np.argsort(slot, kind="stable")
    generic = np.random.default_rng(5).uniform(0.5, 1.5, size)
    curvature = Curvature(
        narrow,
        wide,
        single,
        len(order.keys),
        colours,
        pairs,
        generic,
        directions,
        take[by_slot].astype(np.int32),
        slot[by_slot],
    )
    return curvature, order


def _by_pairs(probe: Probe, narrow: tuple[int, ...], sees: Any) -> tuple[np.ndarray, ...]:
    """Colours (C, D), pairs of them (P, 2), and which of the values (P, R) is what entry of the precision."""
    count, size = sees.shape
    colour = colouring(sees)
    row, low, high = _pairs_of_rows(sees)
    low, high = np.where(colour[low] > colour[high], high, low), np.where(colour[low] > colour[high], low, high)
    both = colour[low] * size + colour[high]
    kinds, kind = np.unique(both, return_inverse=True)
    pairs = np.stack([kinds // size, kinds % size], axis=1).astype(np.int32)
    colours = (colour[None] == np.arange(colour.max(initial=-1) + 1)[:, None]).astype(float)
    if not len(pairs):
        return colours, pairs, np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)
    second = probe.program(lambda density, z, colours, pairs: along_pairs(density, z, narrow, colours, pairs))
    values = np.zeros(len(row))
    every = [jax.device_get(second(probe.model, point, colours, pairs)) for point in probe.points]
    for one in every:
        values = np.maximum(values, np.abs(np.asarray(one, float))[kind, row])
    largest = np.zeros(count)
    np.maximum.at(largest, row, values)
    kept = values > NOTHING * largest[row]
    low, high = low[kept], high[kept]
    return colours, pairs, kind[kept] * count + row[kept], np.maximum(low, high), np.minimum(low, high)


def _pairs_of_rows(sees: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every row with every pair of latents that it sees, a latent with itself included."""
    degree = np.diff(sees.indptr)
    found = []
    for k in np.unique(degree[degree > 0]):
        rows = np.flatnonzero(degree == k)
        own = sees.indices[sees.indptr[rows][:, None] + np.arange(k)]
        a, b = np.tril_indices(k)
        found.append((np.repeat(rows, len(a)), own[:, a].reshape(-1), own[:, b].reshape(-1)))
    if not found:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)
    row, low, high = (np.concatenate(one).astype(int) for one in zip(*found, strict=True))
    return row, low, high


def _by_products(there: sparse.csr_matrix, size: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Directions (K, D), and which of the products (K, D) is what entry."""
    colour = colouring(there)
    ends: Any = sparse.tril(there).tocoo()
    row, column = ends.row.astype(int), ends.col.astype(int)
    directions = (colour[None] == np.arange(colour.max(initial=-1) + 1)[:, None]).astype(float)
    return directions, (colour[column] * size + row, row, column)


def _single(probe: Probe, rows: list[int], size: int) -> list[tuple[int, ...]]:
    """Those single rows whose curvature has rank one at every point, parallel ones together."""
    directions = np.random.default_rng(6).uniform(0.5, 1.5, (2, size)).astype(probe.points.dtype)
    found: list[tuple[int, ...]] = []
    known: list[np.ndarray] = []
    for which in rows:
        program = probe.program(lambda density, z, v, which=which: products(density, z, (which,), v))
        both = np.array([program(probe.model, point, directions) for point in probe.points], float)
        if not np.isfinite(both).all() or not all(_parallel(one, other) for one, other in both):
            continue
        same = next((k for k, v in enumerate(known) if all(map(_parallel, v, both[:, 0]))), None)
        if same is None:
            found.append((which,))
            known.append(both[:, 0])
        else:
            found[same] += (which,)
    return found


def _parallel(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one @ other) ** 2 >= (1.0 - 1e-9) * (one @ one) * (other @ other))
