"""log p(x, g) and log q(g) at draws of a product of factors, with as many latents as possible integrated out."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from scipy import special

from jensen._conjugate.coordinate.collapse import Weighable
from jensen._conjugate.coordinate.hybrid_solution import HybridSolution
from jensen._conjugate.coordinate.solution import Solution
from jensen._families.exponential import Product, draw_many
from jensen._math.keys import host_keys
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._program.on_host import HostProgram

PILOT = 128
"""Draws on which a choice of what to integrate out is tried."""
EVEN = 0.5
"""Spread of the log weights, in nats, below which no other choice is tried."""
CHOICES = 2
KEPT = "_weigher"
LONG, LONGER = 10_000, 4e7
"""Numbers that a log density works on from which on a program for the factors alone is worth its compilation, and that
all draws work on from which on a better optimised program is."""


@dataclass(frozen=True, eq=False)
class Weigher:
    """A choice of the latents that keep their draws, and densities at those draws; others leave as `way` says."""

    solution: Solution | HybridSolution
    way: Weighable

    @property
    def _elements(self) -> int:
        """Numbers that one log density works on: data, and the moments of what leaves."""
        model = self.way.plan.model
        leaving = sum(int(np.prod(shape)) for n in self.way.plan.out for shape in model.blocks[n].shapes.values())
        return 1 + leaving + sum(np.size(a) for a in jax.tree.leaves(self.way.arrays))

    @property
    def batch(self) -> int:
        """Log densities that are computed side by side."""
        return int(np.clip(200_000 // self._elements, 1, PILOT))

    @property
    def size(self) -> int:
        """Draws that are affordable: 4096 where the data are small, at least 256."""
        return int(2 ** np.clip(np.floor(np.log2(1e8 / self._elements)), 8, 12))

    @functools.cached_property
    def wide(self) -> Product:
        """The factors to a power below one."""
        with working(self.solution.precision):
            return tempered(self.way.q)

    @functools.cached_property
    def _program(self) -> Program:
        return self._made(_weighed, grade=self._grade)

    def _made(self, fn: Any, *key: Any, grade: bool | str = False) -> Program:
        """The program of `fn` for this choice, whatever the data."""
        name = (fn, self.way.plan.kept, self.batch, grade, *key)
        if name not in self.way.programs:
            self.way.programs[name] = Program(functools.partial(fn, self.way.bare(), self.batch, *key), grade)
        return self.way.programs[name]

    @property
    def _grade(self) -> bool | str:
        """How far programs are optimised."""
        return "middle" if self.size * self._elements > LONGER else False

    def __call__(self, values: Any, count: int) -> tuple[np.ndarray, ...]:
        """log p(x, g), log q(g) and the log density of `wide` at `count` draws, `PILOT` of them at a time.

        Where everything leaves, the one log joint is log p(x).
        """
        with working(self.solution.precision):
            if not values:
                log_evidence = float(Program(functools.partial(self.way.log_joint, {}))(self.way.arrays))
                return np.full(count, log_evidence), np.zeros(count), np.zeros(count)
            parts = []
            for start in range(0, count, PILOT):
                rows = np.minimum(np.arange(start, start + PILOT), count - 1)
                chunk = {name: value[rows] for name, value in values.items()}
                parts.append(jax.device_get(self._program(self.way.q, self.wide, chunk, self.way.arrays)))
        return tuple(np.concatenate(column)[:count] for column in zip(*parts, strict=True))

    @functools.cached_property
    def _densities(self) -> Program:
        return Program(functools.partial(_own, self.batch))

    def densities(self, values: Any, count: int) -> tuple[np.ndarray, ...]:
        """log q(g) and the log density of `wide` alone; where data are small the program of all three is at hand."""
        if not values or self._elements < LONG:
            return self(values, count)[1:]
        with working(self.solution.precision):
            parts = []
            for start in range(0, count, PILOT):
                rows = np.minimum(np.arange(start, start + PILOT), count - 1)
                chunk = {name: value[rows] for name, value in values.items()}
                parts.append(jax.device_get(self._densities(self.way.q, self.wide, chunk)))
        return tuple(np.concatenate(column)[:count] for column in zip(*parts, strict=True))

    def draw(self, q: Product, count: int, seed: int) -> Any:
        """Draws of one of the two products."""
        with working(self.solution.precision):
            return draw_many(q, count, seed)

    def conditional(self, names: tuple[str, ...], points: Any, count: int, seed: int) -> Any:
        """Draws of blocks that left, from their exact conditionals at `count` values of the others."""
        with working(self.solution.precision):
            program = self._made(_conditional, names, grade=self._grade)
            root = host_keys(seed, "conditionals", 1)[0]
            parts = []
            for start in range(0, count, PILOT):
                rows = np.minimum(np.arange(start, start + PILOT), count - 1)
                chunk = {name: value[rows] for name, value in points.items()}
                parts.append(jax.device_get(program(self.way.arrays, chunk, root, rows.astype(np.uint32))))
        return {site: np.concatenate([part[site] for part in parts])[:count] for site in parts[0]}

    @functools.cached_property
    def pilot(self) -> np.ndarray:
        """Log weights of a few draws of q."""
        log_joint, log_q, _ = self(self.draw(self.way.q, PILOT, 0), PILOT)
        with np.errstate(invalid="ignore"):  # what is not a number counts as infinite spread
            return log_joint - log_q


def chosen_weigher(solution: Solution | HybridSolution) -> Weigher:
    """The first choice of what leaves whose weights are even, else the one whose weights vary least on a few draws.

    Kept beside the solution's target for the next who asks: programs and draws of a fit serve its check.
    """
    kept = vars(solution.target)
    if KEPT not in kept or kept[KEPT].solution is not solution:
        kept[KEPT] = _choice(solution)
    return kept[KEPT]


def _choice(solution: Solution | HybridSolution) -> Weigher:
    with working(solution.precision):
        found = [Weigher(solution, way) for way in solution.weighables()]
    exact = [choice for choice in found if not choice.way.weighed]
    if exact or len(found) == 1:
        return (exact or found)[0]
    tried: list[tuple[float, Weigher]] = []
    for choice in found[:CHOICES]:
        spread = float(np.std(choice.pilot)) if np.all(np.isfinite(choice.pilot)) else np.inf
        tried.append((spread, choice))
        if spread < EVEN:
            break
    return min(tried, key=lambda pair: pair[0])[1]


def gap(solution: Solution | HybridSolution, elbo: float) -> tuple[float, float]:
    """log p(x) - ELBO in nats as a few importance weights see it, and the standard error of that.

    The logarithm of the mean weight of draws from q, other latents integrated out exactly (Burda et al. 2016, eq. 8).
    """
    weigher = chosen_weigher(solution)
    if not weigher.way.plan.exact:
        return np.inf, np.inf
    count = weigher.size // 4
    log_joint, log_q, _ = weigher(weigher.draw(weigher.way.q, count, 0), count)
    with np.errstate(invalid="ignore"):
        logs = log_joint - log_q
    if not np.all(np.isfinite(logs)):
        return np.inf, np.inf
    ratio = np.exp(logs - logs.max())
    estimate = float(special.logsumexp(logs) - np.log(len(logs)))
    return estimate - elbo, float(ratio.std() / np.sqrt(len(ratio)) / ratio.mean())


def tempered(q: Product) -> Product:
    """Every factor to a power below one, as low as its domain and the number of its latents allow.

    q_j^β normalised, β < 1: for an exponential family the same family with its natural parameters times β, wider by
    1/√β for a Gaussian. β tends to 1 as the dimension grows, so that the draws stay useful.
    """
    scalars = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(q))
    lowest = max(0.5, 1.0 - 1.5 / np.sqrt(max(scalars, 1)))
    powers = np.array([lowest, 0.5 * (1.0 + lowest), 0.25 * (3.0 + lowest), 1.0])
    inside = _CONTAINED.on_host(q, powers[:-1])
    factors = {}
    for name, factor in jax.device_get(q.factors).items():  # multiplied in NumPy: JAX compiles it for every shape
        power = powers[int(np.argmax([*inside[name], True]))]
        factors[name] = _to_power(factor, power)
    return Product(factors, q.blocks)


def _to_power(factor: Any, power: Any) -> Any:
    return eqx.tree_at(lambda f: f.natural, factor, jax.tree.map(lambda a: power * a, factor.natural))


def _contained(q: Product, powers: Any) -> dict[str, Any]:
    return {
        name: jax.vmap(lambda power, f=factor: jax.numpy.all(_to_power(f, power).contains()))(powers)
        for name, factor in q.factors.items()
    }


_CONTAINED = HostProgram(_contained)


def _conditional(
    way: Weighable, batch: int, names: tuple[str, ...], arrays: Any, points: Any, root: Any, rows: Any
) -> Any:
    key = jax.random.wrap_key_data(root)

    def one(item: tuple[Any, Any]) -> Any:
        point, row = item
        naturals, model = way.conditionals(point, arrays), way.plan.model
        drawn = {}
        for i, name in enumerate(names):
            values = model.factor(name, naturals[name]).draw(jax.random.fold_in(jax.random.fold_in(key, row), i))
            drawn |= dict(zip(model.blocks[name].sites, values, strict=True))
        return drawn

    return jax.lax.map(one, (points, rows), batch_size=batch)


def _own(batch: int, q: Product, wide: Product, values: Any) -> tuple[Any, ...]:
    return jax.lax.map(lambda value: (q.log_prob(value), wide.log_prob(value)), values, batch_size=batch)


def _weighed(way: Weighable, batch: int, q: Product, wide: Product, values: Any, arrays: Any) -> tuple[Any, ...]:
    def one(value: Any) -> tuple[Any, ...]:
        return way.log_joint(value, arrays), q.log_prob(value), wide.log_prob(value)

    return jax.lax.map(one, values, batch_size=batch)
