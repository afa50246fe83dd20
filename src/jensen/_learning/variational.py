"""Variational EM under a Gaussian: one deterministic bound, maximised jointly in q and the parameters."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to

from jensen._auto.auto import Auto
from jensen._auto.target import AutoTarget
from jensen._base.errors import ModelError
from jensen._base.typing import leaf
from jensen._conjugate.coordinate.refusals import no_maximum
from jensen._core import AbstractAlgorithm, Certificate, Estimates, Outcome, Progress, relayed
from jensen._core.algorithm import Run
from jensen._families import FullRank, MeanField
from jensen._gaussian.advi import ADVI
from jensen._math import lbfgs, linalg
from jensen._math.noise import symmetric_draws
from jensen._math.precision import Precision, float_type, working
from jensen._model import Target, build
from jensen._model.numpyro import NumPyroModel
from jensen._model.parameters import LEARNED, Closed, Parameter
from jensen._model.parameters.charts import at_edge
from jensen._program.bijection import on_the_line

DENSE = 40
"""Most unconstrained coordinates of the latents for which the bound that is maximised has a full covariance."""
ROUNDS = 5
MOST_DRAWS = 2048
AGREE = 1e-3
"""Largest change of an unconstrained parameter coordinate from one set of draws to one of twice the size, relative to
1 + its size, at which the estimates count as converged."""
RUNAWAY = 25.0
EDGE = 8.0
STEEP = 0.1
"""Changes of an unconstrained coordinate: beyond `EDGE` the parameter is, to all appearances, at the edge of its range;
at `RUNAWAY` the climb ends. `STEEP`: nats for each unit of a coordinate on the real line, where a climb that cannot end
is still going up."""

Values = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Chart:
    """Parameters as one unconstrained vector."""

    supports: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, values: Values, supports: dict[str, Any]) -> "Chart":
        """The chart for values of these shapes."""
        return cls(supports, {n: tuple(biject_to(s).inverse_shape(np.shape(values[n]))) for n, s in supports.items()})

    @property
    def dim(self) -> int:
        """Coordinates."""
        return sum(int(np.prod(shape, dtype=int)) for shape in self.shapes.values())

    def forward(self, flat: Any) -> dict[str, Any]:
        """The values at a point."""
        values, start = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape, dtype=int))
            values[name] = biject_to(self.supports[name])(flat[start : start + size].reshape(shape))
            start += size
        return values

    def inverse(self, values: Mapping[str, Any]) -> np.ndarray:
        """The point of some values."""
        parts = [biject_to(s).inv(jnp.asarray(values[n])) for n, s in self.supports.items()]
        return np.concatenate([np.ravel(np.asarray(part, float)) for part in parts])

    @property
    def edged(self) -> np.ndarray:
        """Which coordinates belong to parameters whose range has an edge."""
        sizes = [int(np.prod(shape, dtype=int)) for shape in self.shapes.values()]
        return np.repeat([not on_the_line(self.supports[name]) for name in self.shapes], sizes)

    def owner(self, index: int) -> str:
        """The parameter that holds this coordinate."""
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in self.shapes.values()])
        return list(self.shapes)[int(np.searchsorted(ends, index, side="right"))]


class _Fixed(eqx.Module):
    """What does not change in a round: the model, the whitening by the starting Gaussian, and the draws."""

    model: NumPyroModel
    loc: Any
    root: Any
    noise: Any


def _bound(fixed: _Fixed, chart: Chart, dense: bool, flat: Any) -> Any:
    """L(m, C, θ) = 1/S Σ_s log p(x, u_s; θ) + log |R C| + D/2 log 2πe, u_s = m₀ + R (m + C ε_s), in nats."""
    dim = fixed.loc.shape[0]
    here, spread = flat[chart.dim : chart.dim + dim], flat[chart.dim + dim :]
    model = eqx.tree_at(lambda m: m.data, fixed.model, {**fixed.model.data, LEARNED: chart.forward(flat[: chart.dim])})
    if dense:
        below = jnp.zeros((dim, dim)).at[np.tril_indices(dim, -1)].set(spread[dim:])
        inner = here + fixed.noise @ (below + jnp.diag(jnp.exp(spread[:dim]))).T
        points = fixed.loc + inner @ fixed.root.T
        size = jnp.sum(jnp.log(jnp.diagonal(fixed.root)))
    else:
        points = fixed.loc + fixed.root * (here + fixed.noise * jnp.exp(spread))
        size = jnp.sum(jnp.log(fixed.root))
    values = jax.vmap(model.log_density)(points)
    return jnp.mean(values) + size + jnp.sum(spread[:dim]) + 0.5 * dim * np.log(2.0 * np.pi * np.e)


_climbed = jax.jit(
    jax.vmap(jax.value_and_grad(_bound, argnums=3), in_axes=(None, None, None, 0)), static_argnums=(1, 2)
)


def run(algorithm: AbstractAlgorithm, closed: Closed, data: dict[str, Any], precision: Precision, seed: int) -> Run:
    """max over (q, θ) of the bound on fixed symmetric draws, then the method's own fit at the best θ.

    Quasi-Newton on all coordinates at once (q in those that its starting Gaussian whitens, θ unconstrained) where EM's
    alternation would creep; every accepted step raises the bound. The draws are doubled until the estimates agree.
    """
    parameters = {p.name: p for p in closed.parameters}
    values = {p.name: np.asarray(_initial(p), float) for p in closed.parameters}
    with working(precision):
        first = _target(closed, data, values, precision)
        supports = {name: p.support for name, p in parameters.items()}
        chart = Chart.of(values, supports)
        method = algorithm if isinstance(algorithm, ADVI) else ADVI()
        dense = first.dim <= DENSE and not (isinstance(algorithm, ADVI) and algorithm.family != "full_rank")
        kinds = {name: p.kind for name, p in parameters.items()}
        begin = ADVI(family="full_rank" if dense else "mean_field").run(first, seed)
        start = yield from _given(begin, Estimates(values, kinds, False), first)
        theta = chart.inverse(values)
        written = partial(_so_far, closed, data, chart, kinds, dense, precision)
        networks = frozenset(name for name, kind in kinds.items() if kind == "network")
        found = yield from _maximise(first, chart, dense, start.q, theta, seed, written, networks)
        values = {k: np.asarray(v, float) for k, v in jax.device_get(chart.forward(jnp.asarray(found.theta))).items()}
        last = algorithm.prepare(closed, {**data, LEARNED: values}, precision)
        target: Any = last
        if isinstance(last, AutoTarget):  # the family under which the bound was maximised
            target = AutoTarget(None, last.density) if last.density is not None else last
        estimates = Estimates(values, kinds, False)
        run = (method if isinstance(algorithm, ADVI) else Auto(escalate=False)).run(target, seed)
        outcome = yield from _given(run, estimates, target)
    edge = Edge(theta, chart).far(found.theta)
    certificate = Certificate(moved=found.moved, num_draws=float(found.num_draws), bound=found.bound)
    agree = (
        f"on {found.num_draws} draws they agree with those on half as many to {found.moved:.1g} (unconstrained)"
        if found.moved < AGREE
        else f"from {found.num_draws // 2} to {found.num_draws} draws they still moved by {found.moved:.1g}"
    )
    return replace(
        outcome,
        converged=outcome.converged and found.moved < AGREE,
        status=f"Variational EM for {', '.join(map(repr, kinds))}: {agree}.{at_edge(edge)} {outcome.status}",
        estimates=Estimates(values, kinds, False, certificate),
        target=target,
    )


def check_start(what: str, value: float, chart: Chart) -> None:
    """Raise where a climb found nothing finite."""
    if not np.isfinite(value):
        raise ModelError(
            f"The {what} is not finite at the starting values of the parameters.",
            f"Parameters: {', '.join(chart.shapes)}.",
            "Start them closer to plausible values.",
        )


def _initial(parameter: Parameter) -> Any:
    if parameter.initial is None:
        raise ModelError(
            f"The latent '{parameter.name}' cannot be held at a point here: the model is not conjugate in it.",
            parameter.where,
            "Write it as numpyro.param with an initial value, or leave it latent.",
        )
    return parameter.initial


def _target(closed: Closed, data: dict[str, Any], values: Values, precision: Precision) -> Target:
    target = build(closed, {**data, LEARNED: values}, precision)
    if target.model.handled is None or LEARNED not in target.model.handled.data:
        raise ModelError(
            "The model needs its parameters as concrete numbers while it is being built, so they cannot be learned.",
            f"Parameters: {', '.join(values)}.",
            "Use jnp functions and jnp.where instead of Python's if on them.",
        )
    return target


@dataclass(frozen=True)
class Found:
    """The maximum: the parameters' coordinates, how far they moved from the round before, the bound."""

    theta: np.ndarray
    moved: float
    num_draws: int
    bound: float


def _maximise(
    target: Target,
    chart: Chart,
    dense: bool,
    q: Any,
    theta: np.ndarray,
    seed: int,
    written: Callable[..., Outcome],
    networks: frozenset[str],
) -> Generator[Progress, None, Found]:
    dim, dtype = target.dim, float_type(target.precision)
    loc = np.asarray(q.loc, float)
    root = q.factor() if isinstance(q, FullRank) else q.scales()
    root = np.asarray(root, float)
    if dense and root.ndim == 1:
        root = np.diag(root)
    if not dense and isinstance(q, FullRank):
        root = np.sqrt(np.diagonal(q.covariance()))
    num_draws, moved, bound, first = max(64, 8 * dim if dense else 32), np.inf, -np.inf, theta
    for _ in range(ROUNDS):
        fixed = _Fixed(
            target.model.handled,
            jnp.asarray(loc, dtype),
            jnp.asarray(root, dtype),
            jnp.asarray(symmetric_draws(num_draws, dim, seed + num_draws), dtype),
        )
        spread = np.zeros(dim + (dim * (dim - 1) // 2 if dense else 0))
        x = np.concatenate([theta, np.zeros(dim), spread])

        def evaluate(rows: np.ndarray, fixed: _Fixed = fixed) -> tuple[np.ndarray, np.ndarray]:
            target.gradients += len(rows) * fixed.noise.shape[0]
            value, gradient = jax.device_get(_climbed(fixed, chart, dense, rows.astype(dtype)))
            return np.asarray(value, float), np.asarray(gradient, float)

        step, path, edge = 0, None, Edge(first, chart)
        for step, paths in enumerate(lbfgs.maximise(evaluate, x[None], eps=float(np.finfo(dtype).eps))):
            path = paths[0]
            reached = partial(written, loc, root, path.points[-1])
            yield Progress("parameters", step, path.values[-1], reached)
            if edge.reached(path.points[-1][: chart.dim], path.values[-1]):
                break
        assert path is not None  # the start is always yielded
        point, bound, _ = path.best
        check_start("bound", bound, chart)
        edge.ended(path, networks)
        moved = float((np.abs(point[: chart.dim] - theta) / (1.0 + np.abs(theta))).max())
        theta = point[: chart.dim]
        loc, root = _moved(loc, root, point[chart.dim :], dense)
        if moved < AGREE or 2 * num_draws > MOST_DRAWS:
            break
        num_draws *= 2
    return Found(theta, moved, num_draws, bound)


def _moved(loc: np.ndarray, root: np.ndarray, point: np.ndarray, dense: bool) -> tuple[np.ndarray, np.ndarray]:
    """Location and root of the Gaussian at a point of the whitened coordinates."""
    dim = len(loc)
    here, spread = point[:dim], point[dim:]
    if not dense:
        return loc + root * here, root * np.exp(spread)
    inner = np.zeros((dim, dim))
    inner[np.tril_indices(dim, -1)] = spread[dim:]
    return loc + root @ here, root @ (inner + np.diag(np.exp(spread[:dim])))


def _so_far(
    closed: Closed,
    data: dict[str, Any],
    chart: Chart,
    kinds: dict[str, str],
    dense: bool,
    precision: Precision,
    loc: np.ndarray,
    root: np.ndarray,
    point: np.ndarray,
) -> Outcome:
    """The Gaussian and the parameters at a point of the climb."""
    found = jax.device_get(chart.forward(jnp.asarray(point[: chart.dim])))
    values = {name: np.asarray(value, float) for name, value in found.items()}
    loc, root = _moved(loc, root, point[chart.dim :], dense)
    q = FullRank.from_factor(loc, linalg.cholesky(root @ root.T)) if dense else MeanField(leaf(loc), leaf(np.log(root)))
    target = _target(closed, data, values, precision)
    return Outcome(q, False, "", estimates=Estimates(values, kinds, False), target=target)


def _given(run: Run, estimates: Estimates, target: Any) -> Run:
    """A method's own run at given parameters, with them in everything that it reports."""

    def given(item: Progress) -> Progress:
        return replace(item, q=None if item.q is None else partial(_with, item.q, estimates, target))

    return (yield from relayed(run, given))


def _with(q: Any, estimates: Estimates, target: Any) -> Outcome:
    return Outcome(q() if callable(q) else q, False, "", estimates=estimates, target=target)


class Edge:
    """Watches parameters on their way to the edge of their range.

    A bound that levels off there has a supremum (a useless feature's precision is best infinite) and the climb may
    stop; one that goes on rising has none, which is an error. Parameters on the real line have no edge to be near to,
    and their scale is unknown: theirs is an error where the climb cannot end while it still moves them outwards.
    """

    def __init__(self, start: np.ndarray, chart: Chart):
        self.start, self.chart, self.value = start, chart, np.inf
        self.edged = chart.edged

    def far(self, point: np.ndarray) -> list[str]:
        """The parameters that are, to all appearances, at an edge."""
        change = np.abs(point - self.start) * self.edged
        return sorted({self.chart.owner(int(i)) for i in np.flatnonzero(change > EDGE)})

    def reached(self, point: np.ndarray, value: float) -> bool:
        """Whether to stop."""
        change = np.abs(point - self.start) * self.edged
        far = float(change.max(initial=0.0))
        if far > EDGE:
            self.value = min(self.value, value)
        if far <= RUNAWAY:
            return False
        if value - self.value > 1.0:
            name = self.chart.owner(int(np.argmax(change)))
            raise no_maximum(name, "", f"Parameter '{name}'.")
        return True

    def ended(self, path: lbfgs.Path, networks: frozenset[str] = frozenset()) -> None:
        """Raise where a climb that did not converge was still pushing a parameter along the real line.

        Not one of `networks`: that of weights which grow with what little there is left to gain is nothing unusual.
        """
        if path.converged:
            return
        point, _, slope = path.best
        change, slope = (point[: self.chart.dim] - self.start), slope[: self.chart.dim]
        pushed = np.where(self.edged | (np.abs(change) <= RUNAWAY), 0.0, slope * np.sign(change))
        worst = int(np.argmax(pushed)) if len(pushed) else 0
        name = self.chart.owner(worst)
        if pushed.max(initial=0.0) > STEEP and name not in networks:
            raise no_maximum(
                name, f" It has moved by {change[worst]:.3g} and the bound was still rising.", f"Parameter '{name}'."
            )
