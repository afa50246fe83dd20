"""The density of θ as the host sees it: every evaluation begins where the modes of z were at the best θ so far."""

import copy
import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jensen._math.keys import host_keys
from jensen._math.precision import working
from jensen._math.programs import Graded, Program
from jensen._math.reckoning import CALL, TURNS, Price, price
from jensen._model import Target
from jensen._model.one_rotation import saved_turns
from jensen._nested.model import NestedModel
from jensen._nested.quadrature import nodes
from jensen._nested.shared_nodes import PROBES, found_kinds, nodes_over, placed

STRETCH = 1.2
"""How far the nodes are drawn apart to see their error."""
WIDTH = 2e7
"""Data values that one call of the compiled density reads: its program is long, so there is one width of batch."""
TIMES = 5
"""Evaluations of the program for each node: values, gradients, and the search for modes."""
THETA = 4096, (64,)
"""Values of θ that are put on their supports together, where nothing else is computed: most, and fewer."""
SHARED = 8
"""Draws of a table at one value of θ where an evaluation is dear."""
FEW = 64
"""Values that are worth no program of their own."""
MULTIPLIED = 20
"""Multiplications of matrices that take as long as a data value."""
TOLD = 2_000_000
"""Data values that deterministic sites are told from at a time."""
COMMON, SAME = 2e5, 0.02
"""Data values from which on groups may share nodes, and nats that this may change."""
HEAVY, WHOLE, DEAR = 1e6, 2e7, 3e4
"""Data values from which on few starts and draws have to do, in one evaluation or in one for each coordinate, and those
from which on no mixture or flow is climbed."""


Values = Callable[[np.ndarray], np.ndarray]
"""Points (rows, d) -> log densities (rows,) in nats."""


class Evaluated(NamedTuple):
    """Log densities (rows,) in nats, gradients (rows, d), modes of z at the highest, and the most damping needed."""

    values: Any
    slopes: Any
    mode: Any
    damping: Any


def evaluated(model: Any, points: jax.Array, count: Any) -> Evaluated:
    """The density at the first `count` points.

    One point after the other: the searches for modes are loops of different lengths, and what is not asked for costs
    nothing.
    """
    graded = jax.value_and_grad(lambda point: model.at(point), has_aux=True)

    def step(i: Any, state: Any) -> Any:
        found, top = state
        (value, (mode, damping)), slope = graded(points[i])
        better = value > top
        here = Evaluated(
            found.values.at[i].set(value),
            found.slopes.at[i].set(slope),
            jnp.where(better, mode, found.mode),
            jnp.maximum(found.damping, damping),
        )
        return here, jnp.where(better, value, top)

    nothing = jnp.full(len(points), -jnp.inf, points.dtype)
    start = Evaluated(nothing, 0.0 * points, model.start, 0.0 * points[0, 0])
    return lax.fori_loop(0, count, step, (start, nothing[0]))[0]


def value_alone(model: Any, points: jax.Array, count: Any) -> jax.Array:
    """Log densities at the first `count` points."""
    nothing = jnp.full(len(points), -jnp.inf, points.dtype)
    return lax.fori_loop(0, count, lambda i, values: values.at[i].set(model.at(points[i])[0]), nothing)


def drawn(model: Any, points: jax.Array, keys: jax.Array, count: Any) -> Any:
    """Draws at the first `count` points (n, d) with data of keys (n, m, ...), each leaf (n, m, ...)."""
    one = lambda i: model.drawn(points[i], jax.random.wrap_key_data(keys[i]))  # noqa: E731
    nothing = jax.tree.map(lambda leaf: jnp.zeros((len(points), *leaf.shape), leaf.dtype), jax.eval_shape(one, 0))
    put = lambda i, state: jax.tree.map(lambda all_, own: all_.at[i].set(own), state, one(i))  # noqa: E731
    return lax.fori_loop(0, count, put, nothing)


_evaluated, _value_alone, _drawn = Graded(evaluated), Graded(value_alone), Graded(drawn, rare=True)


def _flat(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])


class NestedTarget(Target):
    """A target whose groups' modes are followed from one θ to the next.

    Where the nodes of the quadrature are centred changes an integral by no more than its error, but a start near the
    mode saves nearly all Newton steps.
    """

    model: NestedModel
    best: float = -np.inf
    how: str = "group by group"
    allowed: float = 0.05  # nats by which integrals may vary from one θ to another
    wide: int
    widths: tuple[int, ...]
    heavy: bool
    dear: bool
    second_order: bool
    gradients: int
    values: int

    def weigh(self, rows: int) -> "NestedTarget":
        """Say what an evaluation costs for a program of so many data values; one width of batch."""
        alike = self.model.alike
        if alike is None:
            return self._weighed(rows, TIMES * len(self.model.points))
        multiplied = alike.counts.size * len(alike.nodes) // (MULTIPLIED * rows)
        return self._weighed(rows, TIMES * len(alike.places) + multiplied)

    def _weighed(self, rows: int, times: int) -> "NestedTarget":
        self.rows = rows
        self.costs(rows=rows, times=times)
        self.wide, self.widths = int(np.clip(2 ** int(np.log2(WIDTH / self.elements + 1)), 2, 64)), ()
        self.heavy = self.elements >= HEAVY or self.elements * self.dim >= WHOLE
        self.dear, self.second_order = self.elements >= DEAR, False
        return self

    @property
    def program_of_gradients(self) -> Any:
        """(model, points, how many of them) -> `Evaluated`."""
        return _evaluated.at(self.dear)

    @property
    def program_of_values(self) -> Any:
        """(model, points, how many of them) -> values."""
        return _value_alone.at(self.dear)

    @property
    def program_of_draws(self) -> Any:
        """(model, points, key data, how many points) -> draws."""
        return _drawn.at(self.heavy)

    @property
    def model_of_draws(self) -> Any:
        """The model that latents are drawn by."""
        return self.model

    @cached_property
    def reach(self) -> float:
        """That of the program: the loop in which modes are found has an end."""
        return self.whole.reach

    @property
    def whole(self) -> Target:
        """The program's density, with what is integrated out here."""
        return Target(self.model.base, self.model.base.bijection.structure, self.precision)

    @cached_property
    def price(self) -> Price:
        """What gradients take, reckoned from the program, in which points follow each other in a loop."""
        points, width = self._pad(np.zeros((1, self.dim)))
        with working(self.precision):
            found = price(self._traced(points[:width]), 1)
        return Price(CALL, (found.begun - CALL + found.each) / TURNS)

    def _traced(self, points: np.ndarray) -> Any:
        return self.program_of_gradients.trace(self.model, points, 1).jaxpr.jaxpr

    def value_and_grad(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (rows,) in nats and gradients (rows, d), float64."""
        return self.evaluated(points)[:2]

    def evaluated(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """`value_and_grad`, and how far searches for modes had to be damped: zero where all was concave."""
        self.gradients += len(points)
        padded, width = self._pad(points)
        parts = []
        for i in range(0, len(padded), width):
            with working(self.precision):
                count = min(width, len(points) - i)
                part = jax.device_get(self.program_of_gradients(self.model, padded[i : i + width], count))
            top = np.max(part.values, initial=-np.inf, where=np.isfinite(part.values))
            if top > self.best and np.isfinite(part.mode).all():
                self.best, self.model = float(top), dataclasses.replace(self.model, start=part.mode)
            parts.append(part)
        values, slopes = (np.concatenate([part[k] for part in parts])[: len(points)].astype(float) for k in (0, 1))
        return values, slopes, float(max(part.damping for part in parts))

    def value(self, points: np.ndarray) -> np.ndarray:
        """Log densities (rows,) in nats; not a number counts as -inf."""
        self.values += len(points)
        if self.heavy and len(points) > FEW:
            padded, width = self._pad(points)
            with working(self.precision):
                starts = range(0, len(padded), width)
                chunks = ((padded[i : i + width], min(width, len(points) - i)) for i in starts)
                parts = jax.device_get([self.program_of_values(self.model, *chunk) for chunk in chunks])
            values = np.concatenate(parts)[: len(points)].astype(float)
        else:  # gradients cost less than compiling a second program
            values, _ = self.value_and_grad(points)
            self.gradients -= len(points)
        return np.where(np.isnan(values), -np.inf, values)

    def constrain(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """θ and the deterministic sites that it determines, each (rows, ...); without such sites it costs no data."""
        found = copy.copy(self)
        found.wide, found.widths = THETA
        if any(site.name not in self.model.computed for site in self.structure.deterministic):
            found.wide, found.widths = int(np.clip(TOLD // max(self.rows, 1), self.wide, THETA[0])), ()
        return Target.constrain(found, points)

    def places(self, count: int) -> tuple[int, int]:
        """Fewer θ where a search for the modes is dear, with several draws of z at each."""
        return (-(-count // SHARED), SHARED) if self.dear else (count, 1)

    def complete(self, points: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Every latent and deterministic site, each (rows, ...); what is integrated out is drawn given the others."""
        return self.drawn(points, seed)[0]

    def drawn(self, points: np.ndarray, seed: int) -> tuple[dict[str, np.ndarray], Any]:
        """`complete`, and what the draws went through.

        Points that follow each other and are the same, equally often each, share a search for the modes.
        """
        first = np.flatnonzero(np.r_[True, (points[1:] != points[:-1]).any(axis=1)])
        each = len(points) // len(first)
        if not np.array_equal(first, each * np.arange(len(first))):
            first, each = np.arange(len(points)), 1
        padded, width = self._pad(points[first])
        model, parts = self.model_of_draws, []
        with working(self.precision):
            keys = host_keys(seed, "complete", len(padded) * each).reshape(len(padded), each, -1)
            for i in range(0, len(padded), width):
                some, count = slice(i, i + width), min(width, len(first) - i)
                found = jax.device_get(self.program_of_draws(model, padded[some], keys[some], count))
                parts.append(jax.tree.map(lambda leaf, count=count: leaf[:count], found))
        return jax.tree.map(lambda *leaves: _flat(np.concatenate(leaves)), *parts)

    @property
    def shareable(self) -> bool:
        """Whether it is worth it to see if groups may share nodes."""
        layout = self.model.layout
        return self.elements >= COMMON and layout.size == 1 and not layout.quadratic

    def looked(self, point: np.ndarray) -> tuple[Any, Any]:
        """`NestedModel.looked` at u, and at a few generic places; the numbers of rows by site."""
        rng = np.random.default_rng(7)
        others, at = 0.4 * rng.normal(size=(PROBES, self.dim)), rng.normal(size=PROBES)
        dtype = self.model.points.dtype
        with working(self.precision):
            program = Program(lambda model, *points: model.looked(*points))
            return jax.device_get(program(self.model, *(x.astype(dtype) for x in (point, others, at))))

    def shared(self, point: np.ndarray, nodes: np.ndarray | None = None) -> "NestedTarget":
        """The same, with nodes that all groups share where their rows are alike: these, or as the groups are at u.

        Only where that is cheaper, and changes nothing around u.
        """
        layout = self.model.layout
        centre, seen = self.looked(point)
        probed = np.concatenate([np.asarray(seen[name], float) for name in sorted(seen)])
        kinds = found_kinds(probed, layout, {name: len(rows) for name, rows in seen.items()})
        if kinds is None:
            return self
        given = nodes is not None
        nodes = nodes if given else nodes_over(*(np.asarray(x, float).reshape(-1) for x in centre))
        alike = None if nodes is None else placed(kinds, nodes, self.model.points.dtype)
        if alike is None:
            return self
        found = self._with(alike=alike).weigh(self.rows)
        near = point + SAME * np.random.default_rng(8).normal(size=(4, self.dim))
        same = given or np.abs(found.value(near) - self.value(near)).max() < SAME
        return found if same and found.elements < self.elements else self

    def finer(self, times: float = 1.0) -> "NestedTarget":
        """The same density with about twice the nodes, for each group its own: errors fall by orders of magnitude."""
        del times
        model = self.model
        per_axis = 2 * model.per_axis + 1
        points, log_weights = (x.astype(model.points.dtype) for x in nodes(per_axis, model.layout.size))
        return self._with(points=points, log_weights=log_weights, per_axis=per_axis, alike=None).weigh(self.rows)

    def error(self, points: np.ndarray, known: Values | None = None) -> float:
        """Standard deviation over these θ of what the log density owes to where the nodes are, in nats.

        The integrals do not depend on the nodes' distance from the modes, so what changes when the nodes are drawn
        apart by `STRETCH` is error. What is the same for every θ leaves the posterior as it is. `known` gives values of
        the density itself, where some are known or worth being remembered.
        """
        wider = np.asarray(STRETCH, self.model.points.dtype)
        here = self.settled()
        return float(np.std(here._with(stretch=wider).value(points) - (known or here.value)(points)))

    def doubts(self, points: np.ndarray) -> str:
        """What else speaks against the integrals at these θ, in a sentence."""
        del points
        return ""

    def settled(self, start: np.ndarray | None = None) -> Any:
        """The same target, with all searches from `start`, or from where they begin now: equal θ give equal bits."""
        found = self if start is None else self._with(start=start)
        found = copy.copy(found)
        found.best = np.inf
        return found

    def in_batches(self, width: int) -> "NestedTarget":
        """The same, with equal bits at equal points: points of a batch that are not asked for cost nothing."""
        del width
        return self.settled()

    def chart(self) -> dict[str, np.ndarray]:
        """What a file keeps to find the same density again from the program."""
        shared = {} if self.model.alike is None else {"shared": np.asarray(self.model.alike.nodes)}
        known = {"nodes": np.asarray(self.model.per_axis), "start": np.asarray(self.model.start)}
        return {**known, **shared, **saved_turns(self)}

    def _with(self, **leaves: Any) -> Any:
        found = copy.copy(self)
        found.model = dataclasses.replace(self.model, **leaves)
        return found
