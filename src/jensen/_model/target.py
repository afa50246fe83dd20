"""The log density over R^D as the host sees it: NumPy in, NumPy out, compiled once, counted and timed."""

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jensen._core import AbstractModel, AbstractTarget
from jensen._math import lbfgs, linalg
from jensen._math.keys import host_keys
from jensen._math.precision import Precision, float_type, working
from jensen._math.programs import Graded, primitives
from jensen._math.reckoning import Price, price
from jensen._model.program import BoundProgram, program_of
from jensen._program.bijection import AbstractChart
from jensen._program.on_host import HostProgram
from jensen._program.structure import Structure


def _log_density(model: AbstractModel, point: jax.Array) -> jax.Array:
    return model.log_density(point)


def _weighted(parts: Any, weights: jax.Array) -> Any:
    return jax.tree.map(lambda one: jax.numpy.tensordot(weights, one, 1), parts)


# Programs of the module: jit's own cache then serves every fit of the same model and shapes.
_value_and_grad = Graded(jax.vmap(jax.value_and_grad(_log_density, argnums=1), (None, 0)))
_value = Graded(jax.vmap(_log_density, (None, 0)))
_constrain = Graded(jax.vmap(lambda model, point: model.constrain(point), (None, 0)), rare=True)
_complete = Graded(
    jax.vmap(lambda model, point, key: model.complete(point, jax.random.wrap_key_data(key)), (None, 0, 0)),
    rare=True,
)
_terms = Graded(lambda model, point: model.terms_at(point)[0], rare=True)
_forward = Graded(lambda model, point: model.bijection.forward(point), rare=True)
_inverse = Graded(lambda model, latent: model.bijection.inverse(latent)[0], rare=True)
_mean_marginals = Graded(lambda model, points, weights: _weighted(jax.vmap(model.marginals)(points), weights))
_inverses = Graded(jax.vmap(lambda model, latent: model.bijection.inverse(latent), (None, 0)), rare=True)


@jax.jit
def _hessian_columns(model: AbstractModel, point: jax.Array, directions: jax.Array) -> jax.Array:
    gradient = jax.grad(lambda u: model.log_density(u))
    return jax.vmap(lambda v: jax.jvp(gradient, (point,), (v,))[1])(directions)


STATE = 40
"""Data values that take as long to read as one state of a latent, or one number of what is integrated out in closed
form, takes to leave, gradient included."""
DEAR = 200_000
"""Work from which on evaluations, not compilation, take the time."""


def _states(structure: Structure) -> int:
    """States, pairs of them along a chain, that are summed over."""
    return sum(
        int(np.prod(site.shape, dtype=float)) * len(site.values) ** (2 if site.scanned else 1)
        for site in structure.summed
        if site.values is not None
    )


WORTH = 0.3
"""Seconds of values, reckoned as those of gradients, from which on a program of values alone is worth compiling."""
LARGEST = 8192
"""Draws that an answer is weighed by, at most."""


class Target(AbstractTarget):
    """log p(x, T(u)) + log|det| over u ∈ R^D, evaluated in batches of few distinct sizes.

    Every distinct batch size is one compilation, so batches are padded to few sizes: one where the data are small
    (compilation dominates), a few where they are large (evaluation dominates).

    Attributes:
        model: the model; structure: its analysis; dim: D.
        initial: where the user asked climbs to start, if anywhere.
        subsample: batches of one plate's rows (`jensen._model.subsample`), where a fit works on them.
        elements: data values that one evaluation reads; heavy: whether they are so many that evaluation dominates.
        work: what one evaluation costs, in data values read: the states of latents that are summed out count too. What
            a fit would cost is reckoned in these, so that a seed gives the same bits on every machine.
        dear: whether hundreds of thousands of gradients take too long.
        second_order: whether curvature is by second derivatives, and not by differences of gradients.
        gradients, values: log-density evaluations so far, with and without gradient.
        draws: by which an answer is weighed, at most.
        values_only: whether no gradient of it will be asked for, so that a program of values alone is the cheaper one.
        few: evaluates it in NumPy, where so few values will be asked for that compiling would take longer.
    """

    draws: int = LARGEST
    values_only: bool = False
    few: HostProgram | None = None
    model: AbstractModel
    structure: Structure
    initial: np.ndarray | None
    dim: int
    gradients: int
    values: int
    elements: int
    work: int
    heavy: bool
    dear: bool
    second_order: bool
    wide: int
    widths: tuple[int, ...]

    def __init__(
        self, model: AbstractModel, structure: Structure, precision: Precision, initial: np.ndarray | None = None
    ):
        self.model, self.structure, self.initial = model, structure, initial
        self.subsample: Any = None
        self.precision: Precision = precision
        self.dim = structure.dim
        self.gradients = self.values = 0
        arrays = [*jax.tree.leaves(model), *jax.tree.leaves(dict(model.constants))]
        self.costs(sum(np.size(leaf) for leaf in arrays))

    def costs(self, rows: int, times: int = 1, leaves: int = 0) -> None:
        """Say how many data values one evaluation reads, `times` over, and how many numbers leave in closed form."""
        self.elements = max(1, rows * times)
        self.work = self.elements + STATE * (_states(self.structure) + leaves)
        self.heavy, self.dear = self.elements >= DEAR, self.work >= DEAR
        self.second_order = self.heavy or self.precision == "single"
        self.wide = int(np.clip(2 ** int(np.log2(max(2e9 / self.elements, 1))), 1, 64))
        self.widths = tuple(w for w in (1, 2, 8, 32) if w < self.wide) if self.heavy else ()

    def coordinate_names(self) -> list[str]:
        """A label for each coordinate."""
        chart = self.model.bijection
        return (chart if isinstance(chart, AbstractChart) else self.structure).coordinate_names()

    @property
    def remarks(self) -> dict[str, tuple[float, str]]:
        """What a verdict has to say of how the density is told: title -> (number, sentence)."""
        return {}

    @property
    def origin(self) -> "Target":
        """The target whose values are the program's own, far out too: itself, unless a surface stands for it."""
        return self

    def in_batches(self, width: int) -> "Target":
        """The same target, evaluated at so many points at a time."""
        found = copy.copy(self)
        found.wide, found.widths = width, ()
        return found

    @property
    def program(self) -> BoundProgram | None:
        """The NumPyro program behind the density; `None` for a plain log density."""
        return program_of(self.model, self.precision)

    @property
    def eps(self) -> float:
        """Rounding error of the working precision."""
        return float(np.finfo(float_type(self.precision)).eps)

    @cached_property
    def reach(self) -> float:
        """How far a climb may move a coordinate at once: not far where the density has loops without a known end.

        An adaptive solver takes as many steps as its equation is stiff, which far out can be for ever, and a running
        program cannot be stopped.
        """
        return 1.0 if "while" in primitives(self._gradients_traced()) else np.inf

    @cached_property
    def price(self) -> Price:
        """What gradients take, reckoned from the program."""
        return price(self._gradients_traced(), self.wide)

    @property
    def whole(self) -> "Target":
        """The density of all latents, nothing integrated out, that a sampler would go through."""
        return self

    def _gradients_traced(self) -> Any:
        with working(self.precision):
            points = np.zeros((self.wide, self.dim), float_type(self.precision))
            return _value_and_grad.at(self.heavy).trace(self.model, points).jaxpr.jaxpr

    def climbs(self, starts: np.ndarray, max_steps: int, tolerance: float) -> Iterator[list[lbfgs.Path]]:
        """L-BFGS from every row of `starts`, step by step (`jensen._math.lbfgs.maximise`)."""
        return lbfgs.maximise(
            self.value_and_grad, starts, max_steps=max_steps, tolerance=tolerance, eps=self.eps, reach=self.reach
        )

    def _pad(self, points: np.ndarray) -> tuple[np.ndarray, int]:
        rows = len(points)
        width = next((w for w in self.widths if rows <= w), self.wide)
        missing = -rows % width
        points = np.asarray(points, float_type(self.precision))
        return (np.concatenate([points, np.repeat(points[-1:], missing, axis=0)]) if missing else points), width

    def _map(self, program: Graded, points: Any):
        """The program on every row of an array, or of every array of a tree."""
        rows = len(jax.tree.leaves(points)[0])
        width = self._pad(np.zeros(rows))[1]
        padded = jax.tree.map(lambda a: self._pad(a)[0], points)
        with working(self.precision):
            chunks = [jax.tree.map(lambda a, i=i: a[i : i + width], padded) for i in range(0, rows, width)]
            run = program.at(self.heavy)
            parts = jax.device_get([run(self.model, chunk) for chunk in chunks])
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:rows], *parts)

    def for_values(self) -> "Target":
        """The same, of which no gradient will be asked for."""
        found = copy.copy(self)
        found.values_only = True
        return found

    def for_few_values(self) -> "Target":
        """The same, of which a few dozen values will be asked for, and no gradient."""
        found = self.for_values()
        found.few = None if self.heavy else HostProgram(jax.vmap(_log_density, (None, 0)))
        return found

    def value_and_grad(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (rows,) in nats and gradients (rows, D), float64."""
        self.gradients += len(points)
        values, gradients = self._map(_value_and_grad, points)
        return np.asarray(values, float), np.asarray(gradients, float)

    def value(self, points: np.ndarray) -> np.ndarray:
        """Log densities (rows,) in nats; not a number counts as -inf."""
        self.values += len(points)
        if self.few is not None:
            with working(self.precision):
                values = self.few.on_host(self.model, self._pad(points)[0])[: len(points)]
        elif self.heavy or self.values_only or self.values * self.price.each > WORTH:
            values = self._map(_value, points)
        else:  # the gradients cost less than compiling a second program
            values, _ = self._map(_value_and_grad, points)
        values = np.asarray(values, float)
        return np.where(np.isnan(values), -np.inf, values)

    def hessian(self, point: np.ndarray) -> np.ndarray:
        """∂²/∂u² of the log density at one point, (D, D), by forward-over-reverse differentiation in blocks."""
        directions = np.eye(self.dim, dtype=float_type(self.precision))
        block = min(self.dim, max(1, self.wide))
        pad = -self.dim % block
        directions = np.concatenate([directions, np.zeros((pad, self.dim), directions.dtype)])
        with working(self.precision):
            point = np.asarray(point, float_type(self.precision))
            columns = [
                _hessian_columns(self.model, point, directions[i : i + block]) for i in range(0, len(directions), block)
            ]
            columns = np.concatenate(jax.device_get(columns))[: self.dim]
        self.gradients += 2 * self.dim
        return 0.5 * (columns + columns.T).astype(float)

    def whitened_curvature(self, point: np.ndarray, factor: np.ndarray, step: float = 1e-3) -> np.ndarray:
        """-Fᵀ H F for the Hessian H at `point` and a factor F (D, K): near the identity where F Fᵀ ≈ (-H)⁻¹.

        By central differences of exact gradients, which compile nothing new, unless `second_order`: where the data are
        large one evaluation costs more than a compilation, and in single precision differences drown in rounding.
        """
        if self.second_order:
            return -linalg.symmetrise(factor.T @ self.hessian(point) @ factor)
        moves = step * factor.T
        _, gradients = self.value_and_grad(np.concatenate([point + moves, point - moves]))
        difference = (gradients[: len(moves)] - gradients[len(moves) :]) / (2.0 * step)
        return -linalg.symmetrise(difference @ factor)

    def constrain(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Latents and deterministic sites on their supports, each (rows, ...)."""
        return self._map(_constrain, points)

    def places(self, count: int) -> tuple[int, int]:
        """Of `count` draws, at how many values of the latents that are left, and how many of the others at each."""
        return count, 1

    def complete(self, points: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Every latent and deterministic site, each (rows, ...).

        Latents that were summed or integrated out are drawn given the others.
        """
        if not self.structure.conditional:
            return self.constrain(points)
        padded, width = self._pad(points)
        with working(self.precision):
            keys = host_keys(seed, "complete", len(padded))
            parts = [
                jax.device_get(_complete.at(self.heavy)(self.model, padded[i : i + width], keys[i : i + width]))
                for i in range(0, len(padded), width)
            ]
        return {k: np.concatenate([part[k] for part in parts])[: len(points)] for k in parts[0]}

    def marginals(self, points: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Probabilities of every value of every discrete latent, (*shape, K), exact at each point and averaged."""
        shares = np.ones(len(points)) if weights is None else np.asarray(weights)
        padded, width = self._pad(points)
        shares = np.concatenate([shares / shares.sum(), np.zeros(len(padded) - len(points))]).astype(padded.dtype)
        parts: list[dict[str, np.ndarray]] = []
        run = _mean_marginals.at(self.heavy)
        with working(self.precision):
            for i in range(0, len(padded), width):
                part = jax.device_get(run(self.model, padded[i : i + width], shares[i : i + width]))
                parts = [jax.tree.map(np.add, parts[0], part) if parts else part]
        return parts[0]

    def terms(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Elementwise log densities of every site at one point, in nats."""
        with working(self.precision):
            return jax.device_get(_terms.at(self.heavy)(self.model, np.asarray(point, float_type(self.precision))))

    def latent(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """The latents on their supports at one point."""
        with working(self.precision):
            return jax.device_get(_forward.at(self.heavy)(self.model, np.asarray(point, float_type(self.precision)))[0])

    def log_det(self, point: np.ndarray) -> float:
        """log |det ∂T/∂u| at one point: what the log density over R^D adds to the one on the supports, in nats."""
        with working(self.precision):
            return float(_forward.at(self.heavy)(self.model, np.asarray(point, float_type(self.precision)))[1])

    def inverse(self, latents: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """u (rows, D) of stacked latents, and log |det ∂T/∂u| (rows,) there, in nats."""
        points, log_det = self._map(_inverses, latents)
        return np.asarray(points, float), np.asarray(log_det, float)

    def unconstrain(self, latent: dict[str, np.ndarray]) -> np.ndarray:
        """u (D,) of one set of latent values."""
        with working(self.precision):
            return np.asarray(_inverse.at(self.heavy)(self.model, latent), float)
