"""Minibatches of a model: programs analysed on the shape of a batch, their statistics, and the step of the globals."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import DataError, JensenError, ModelError
from jensen.algorithms.coordinate.local import LocalStep
from jensen.families.exponential import Product
from jensen.math.precision import Precision, float_type
from jensen.math.programs import Program
from jensen.models.batches import Batch, Piece
from jensen.models.conjugacy import ConjugateModel, ConjugateTarget, Moments, Naturals
from jensen.models.conjugacy.model import batch_target
from jensen.models.conjugacy.plates import PlateSplit, split
from jensen.models.data_check import convert

LOCAL_ITERATIONS = 100
HEAVY = 100_000
"""Numbers in a pass over a batch beyond which its program is worth optimising."""
ENTRIES = 10_000
"""Parameters of the global blocks beyond which their program is."""


@dataclass(frozen=True)
class Sums:
    """What some rows say: for each program its statistics and the share of its rows, and the rows' bound (nats)."""

    parts: dict[Any, tuple[Any, Any]]
    bound: Any

    def scaled(self, factor: float) -> "Sums":
        """Every row counted `factor` times."""
        parts = {key: jax.tree.map(lambda a: factor * a, part) for key, part in self.parts.items()}
        return Sums(parts, factor * self.bound)

    def __add__(self, other: "Sums") -> "Sums":
        merged = dict(self.parts)
        for key, part in other.parts.items():
            merged[key] = jax.tree.map(jnp.add, merged[key], part) if key in merged else part
        return Sums(merged, self.bound + other.bound)


class Shape:
    """The model at the shape of one piece: its analysis, its split, and its compiled local step."""

    def __init__(self, target: ConjugateTarget, prepare: Program, parts: PlateSplit, iterations: int):
        self.target, self.model, self.parts, self.rows = target, target.model, parts, parts.size
        self.prepare, self.fixed = prepare, target.program.fixed
        self.local = LocalStep(parts, iterations)
        heavy = parts.size * self.local.rows.size > HEAVY
        self._fast, self._exact = (
            Program(partial(self._gather, False), heavy),
            Program(partial(self._gather, True), heavy),
        )
        self.begin = Program(self._begin)

    def gather(self, moments: Moments, arrays: Any, weights: Any, tolerance: Any) -> Any:
        """((statistics, share of the rows), the rows' bound); on logarithms throughout where products underflow."""
        *found, fine = self._fast(moments, arrays, weights, tolerance)
        if not fine:
            *found, _ = self._exact(moments, arrays, weights, tolerance)
        return found

    def _gather(self, exact: bool, moments: Moments, arrays: Any, weights: Any, tolerance: Any) -> Any:
        interface = self.parts.interface(moments, arrays)
        statistics, entropy, fine = self.local.statistics(interface, arrays, weights, tolerance, exact=exact)
        return (statistics, jnp.sum(weights) / self.rows), entropy + paired(statistics, interface), fine

    def _begin(self, start: Moments, arrays: Any, weights: Any) -> Any:
        """The statistics of given local moments."""
        interface = self.parts.interface({name: start[name] for name in self.parts.shared}, arrays)
        local = {name: start[name] for name in self.parts.local}
        statistics, _, _ = self.local.statistics(interface, arrays, weights, 0.0, local)
        return (statistics, jnp.sum(weights) / self.rows), jnp.zeros(())


class Minibatches:
    """Natural-gradient steps and exact sweeps of the global blocks from the rows of a source.

    Every piece is analysed as a model of its own rows only (once for each shape), so that all terms of a row are
    subsampled together; its rows then count N / B times.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        precision: Precision,
        tolerance: float,
        plate: str | None,
        iterations: int = LOCAL_ITERATIONS,
    ):
        self.fn, self.plate = fn, plate
        self.precision: Precision = precision
        self.tolerance, self.iterations = tolerance, iterations
        self.programs: dict[Any, Shape] = {}
        self._updates: dict[tuple[Shape, ...], Program] = {}
        self.moments_of = Program(self._moments_program)
        self.averaged = Program(_mixed)

    def first(self, piece: Piece) -> Shape:
        """Analyse the first piece, which settles the plate and the global blocks."""
        program = self.program(piece)
        self.order = program.parts.shared
        self.model, self.rest = program.model, program
        return program

    def program(self, piece: Piece) -> Shape:
        """The program for pieces of this shape."""
        arguments = convert(piece.arguments, self.precision)
        key = tuple((k, *_kind(v)) for k, v in sorted(arguments.items()))
        if key not in self.programs:
            target, prepare = batch_target(self.fn, arguments, precision=self.precision, check=not self.programs)
            model = target.model
            parts = subsampled(model, self.plate)
            self._check_fixed(target)
            self.plate = parts.plate
            self._check_shapes(parts)
            self.programs[key] = Shape(target, prepare, parts, self.iterations)
        return self.programs[key]

    @property
    def parameters(self) -> int:
        """Numbers in the natural parameters of the globals."""
        return sum(int(np.prod(s)) for n in self.order for s in self.model.blocks[n].shapes.values())

    def _check_fixed(self, target: ConjugateTarget) -> None:
        for name, value in target.program.fixed.items():
            if isinstance(value, np.ndarray):
                raise ModelError(
                    f"The model needs the values of '{name}' before it can be analysed, and they differ by batch.",
                    f"Data key: '{name}'.",
                    "Pass sizes and other numbers that shape the model as plain integers, the same for every batch.",
                )

    def _check_shapes(self, parts: PlateSplit) -> None:
        if not self.programs:
            return
        known = next(iter(self.programs.values()))
        for name in self.order:
            ours = parts.model.blocks[name].shapes if name in parts.model.blocks else None
            theirs = known.model.blocks[name].shapes
            if name not in parts.shared or ours != theirs:
                raise DataError(
                    f"A batch gives the global latents '{name}' the shapes {ours}, the first batch {theirs}.",
                    f"Batch of {parts.size} rows.",
                    "Batches may differ in their number of rows only, and in the length of plates inside the rows.",
                )

    def gather(self, moments: Moments, batch: Batch, size: int | None = None, loose: float = 1.0) -> Sums:
        """The statistics of a batch at the optimum of its local factors; `size`: the rows that it stands for.

        `loose` multiplies the tolerance to which several local blocks are iterated.
        """
        tolerance = np.asarray(loose * self.tolerance, float_type(self.precision))
        return self._summed(batch, size, lambda program, data, w: program.gather(moments, data, w, tolerance))

    def begun(self, start: Callable[[Shape], Moments], batch: Batch, size: int) -> Sums:
        """The statistics of local moments that are given."""
        return self._summed(batch, size, lambda program, data, w: program.begin(start(program), data, w))

    def _summed(self, batch: Batch, size: int | None, work: Callable[..., Any]) -> Sums:
        programs = [self.program(piece) for piece in batch]
        even = (size or 1) / sum(p.rows for p in programs)
        total = Sums({}, 0.0)
        for piece, program in zip(batch, programs, strict=True):
            arrays, weights = self.inputs(piece, program, even)
            part, bound = work(program, arrays, weights)
            total = total + Sums({program: part}, bound)
        return total

    def inputs(self, piece: Piece, program: Shape, even: float = 1.0) -> tuple[Any, np.ndarray]:
        """The arrays that the model makes of a piece, and the weights of its rows."""
        kind = float_type(self.precision)
        arguments = convert(piece.arguments, self.precision)
        weights = even if piece.weights is None else piece.weights
        data = {k: v for k, v in arguments.items() if k not in program.fixed}
        return program.prepare(data), np.broadcast_to(np.asarray(weights, kind), (program.rows,))

    def rows_of(self, piece: Piece) -> int:
        """Rows of a piece."""
        return self.program(piece).rows

    def entries_of(self, batch: Batch) -> int:
        """Observed scalars of a batch."""
        return sum(self.program(piece).model.rows for piece in batch)

    def product(self, naturals: Naturals) -> Product:
        """The global factors."""
        factors = {name: self.model.factor(name, naturals[name]) for name in self.order}
        return Product(factors, tuple((name, self.model.blocks[name].sites) for name in self.order))

    def check_inside(self, inside: np.ndarray, naturals: Naturals) -> None:
        """Raise where a block's factor cannot be normalised."""
        for name, ok in zip(self.order, inside, strict=True):
            if not ok:
                raise ModelError(
                    f"The conditional of block '{name}' is improper: its optimal factor cannot be normalised.",
                    self.model.sites[self.model.blocks[name].sites[0]].where,
                    "Give the block a proper prior, and look for data that leave it undetermined.",
                )

    def finite(self, elbo: float) -> float:
        """The bound, or an error where it is not finite."""
        if not np.isfinite(elbo):
            raise JensenError(
                f"The bound became {elbo}.",
                f"After a sweep over {', '.join(self.order)}.",
                "Rescale the data, or start from other values.",
            )
        return elbo

    def noise(self, elbo: float, scalars: float) -> float:
        """Rounding of a bound, in nats."""
        return (1e-11 if self.precision == "double" else 3e-5) * (abs(elbo) + scalars)

    def whole(self, moments: Moments, batches: Iterable[Batch]) -> Sums:
        """The statistics of every row."""
        total = None
        for batch in batches:
            sums = self.gather(moments, batch)
            total = sums if total is None else total + sums
        assert total is not None
        return total

    def update(self, moments: Moments, naturals: Naturals, sums: Sums, rate: float) -> Any:
        """(moments, naturals, bound before, KL(q ‖ q') + KL(q' ‖ q), blocks in domain) after λ ← (1 - ρ) λ + ρ λ̂."""
        programs = tuple(sums.parts)
        values = tuple(sums.parts[p] for p in programs)
        if programs not in self._updates:
            heavy = self.parameters > ENTRIES
            self._updates[programs] = Program(partial(self._update_program, programs), heavy)
        known = tuple(p.model.energy.arrays for p in programs)
        rate = np.asarray(rate, float_type(self.precision))
        return self._updates[programs](
            moments, naturals, values, sums.bound, rate, known, self.rest.model.energy.arrays
        )

    def _update_program(
        self,
        programs: tuple[Shape, ...],
        moments: Moments,
        naturals: Naturals,
        values: Any,
        rows: Any,
        rate: Any,
        known: Any,
        arrays: Any,
    ) -> Any:
        first = self.rest

        def shares(at: Moments) -> Any:
            """What the sites of the plate say, row terms by their statistics."""
            total = jnp.zeros(())
            for program, (statistics, share), own in zip(programs, values, known, strict=True):
                total = total + paired(statistics, program.parts.interface(at, own))
                total = total + share * program.parts.flat_energy(at, own)
            return total

        def energy(at: Moments) -> Any:
            return shares(at) + first.parts.outer_energy(at, arrays)

        entropy = sum(first.model.factor(n, naturals[n]).entropy() for n in self.order)
        flat = sum(
            share * p.parts.flat_energy(moments, own)
            for p, (_, share), own in zip(programs, values, known, strict=True)
        )
        before = rows + flat + first.parts.outer_energy(moments, arrays) + entropy
        inside, moved = [], jnp.zeros(())
        for name in self.order:
            message = jax.grad(partial(_at, energy, moments, name))(moments[name])
            natural = jax.tree.map(lambda old, new: old + rate * (new - old), naturals[name], message)
            factor = first.model.factor(name, natural)
            inside.append(jnp.all(factor.contains()))
            mean = factor.mean_params()
            moved = moved + distance(naturals[name], moments[name], natural, mean)
            moments, naturals = {**moments, name: mean}, {**naturals, name: natural}
        return moments, naturals, before, moved, jnp.stack(inside)

    def _moments_program(self, naturals: Naturals) -> tuple[Moments, Any]:
        """The moments at these natural parameters, and whether each block is in its domain."""
        factors = {name: self.model.factor(name, naturals[name]) for name in self.order}
        inside = jnp.stack([jnp.all(factor.contains()) for factor in factors.values()])
        return {name: factor.mean_params() for name, factor in factors.items()}, inside


def _mixed(mean: Naturals, new: Naturals, share: Any) -> Naturals:
    return jax.tree.map(lambda a, b: a + share * (b - a), mean, new)


def _at(energy: Callable[[Moments], Any], moments: Moments, name: str, own: Any) -> Any:
    return energy({**moments, name: own})


def distance(natural: Any, mean: Any, other_natural: Any, other_mean: Any) -> Any:
    """⟨η' - η, μ' - μ⟩ = KL(q ‖ q') + KL(q' ‖ q), in nats."""
    products = jax.tree.map(
        lambda n, m, other_n, other_m: jnp.sum((other_n - n) * (other_m - m)), natural, mean, other_natural, other_mean
    )
    return sum(jax.tree.leaves(products), start=jnp.zeros(()))


def _kind(value: Any) -> tuple[Any, ...]:
    """What the analysis of a model depends on: shape and type of arrays, the value of everything else."""
    if isinstance(value, dict):
        return tuple((k, *_kind(v)) for k, v in sorted(value.items()))
    return (value.shape, value.dtype.str) if isinstance(value, np.ndarray) else (repr(value),)


def paired(left: Any, right: Any) -> Any:
    """⟨S, G⟩."""
    return sum((jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)), 0.0)


def subsampled(model: ConjugateModel, plate: str | None) -> PlateSplit:
    """The split along the named plate, or along the largest one that can be subsampled."""
    plates: Mapping[str, int] = {p.name: p.size for site in model.sites.values() for p in site.plates}
    for name in sorted(plates, key=lambda name: -plates[name]):
        parts = split(model, name) if plate in (None, name) else None
        if parts is not None and parts.shared:
            return parts
    if plate is not None and plates.get(plate) == 1:
        raise DataError(
            "A batch holds a single row, which cannot be told apart from what all rows share.",
            f"Plate '{plate}'.",
            "Give every batch at least two rows.",
        )
    raise ModelError(
        f"No plate of this model can be subsampled{f': plate {plate!r}' if plate else ''}.",
        f"Plates: {', '.join(f'{n!r} ({s})' for n, s in plates.items()) or 'none'}.",
        "One plate must hold local latents that depend on the global ones only, and the data row by row; "
        "use cavi otherwise.",
    )
