"""Minibatches of a model: pieces checked and analysed by their shape, their statistics, and the step of the globals."""

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from numpyro.distributions.distribution import validation_enabled

from jensen._base.errors import DataError, ModelError
from jensen._conjugate.algebra import ConjugateModel, ConjugateTarget, Moments, Naturals
from jensen._conjugate.algebra.additive import Additivity
from jensen._conjugate.algebra.analysed import Analysis
from jensen._conjugate.algebra.model import batch_target
from jensen._conjugate.algebra.plates import PlateSplit
from jensen._conjugate.algebra.resized import resized
from jensen._conjugate.coordinate.global_step import moments_program, update_program
from jensen._conjugate.coordinate.refusals import finite, improper
from jensen._conjugate.coordinate.shape import Shape, shape_of
from jensen._conjugate.coordinate.sums import Sums, check_fixed, kind_of, named, place_of, position_of
from jensen._data.data_check import check_missing, missing
from jensen._data.sources import Batch, Piece
from jensen._families.exponential import Product
from jensen._math.precision import Precision, float_type, working
from jensen._math.programs import Program
from jensen._model.door import read
from jensen._model.missing import check_compared
from jensen._program.indices import IndexCheck, index_check

LOCAL_ITERATIONS = 100


class Minibatches:
    """Natural-gradient steps and exact sweeps of the global blocks from the rows of a source.

    Every piece is analysed as a model of its own rows only (once for each shape), so that all terms of a row are
    subsampled together; its rows then count N / B times. That this is right is checked on the first piece. The values
    of every piece are checked, unless those of all rows were before (`checked`). Plates of exactly `size` rows become
    as large as a piece.
    """

    fn: Callable[..., Any]
    size: int | None
    checked: bool
    tolerance: float
    iterations: int
    order: tuple[str, ...]
    model: ConjugateModel
    rest: Shape
    moments_of: Program

    def __init__(
        self,
        fn: Callable[..., Any],
        precision: Precision,
        tolerance: float,
        plate: str | None,
        iterations: int = LOCAL_ITERATIONS,
        size: int | None = None,
        checked: bool = False,
    ):
        self.fn, self.plate, self.size, self.checked = fn, plate, size, checked
        self.precision: Precision = precision
        self.tolerance, self.iterations = tolerance, iterations
        self.programs: dict[Any, Shape] = {}
        self.arrays: dict[Shape, tuple[Any, ...]] = {}
        self.indices: dict[Shape, IndexCheck] = {}
        self.filled: set[tuple[Any, ...]] = set()
        self._known: WeakKeyDictionary[Piece, tuple[dict[str, Any], Shape]] = WeakKeyDictionary()
        self.averaged = _AVERAGED
        self._constant: Sums | None = None

    def first(self, piece: Piece) -> Shape:
        """Analyse the first piece, which settles the plate and the global blocks."""
        shape = self.program(piece)
        self.order = shape.parts.shared
        self.model, self.rest = shape.model, shape
        self.moments_of = moments_program(shape, self.order)
        self._check_additive(piece, shape)
        return shape

    def program(self, piece: Piece) -> Shape:
        """The shape of a piece."""
        if piece not in self._known:
            arguments = read(self.fn, piece.arguments, self.precision, place_of(piece))
            shape = self._shape(piece, arguments)
            if not self.checked:
                self._check_indices(piece, shape, arguments)
            self._known[piece] = arguments, shape
        return self._known[piece][1]

    def _check_indices(self, piece: Piece, shape: Shape, arguments: dict[str, Any]) -> None:
        with working(self.precision), named(piece):
            if shape not in self.indices:
                self.indices[shape] = index_check(shape.analysis.fn, arguments)
            self.indices[shape].run(arguments, place_of(piece))

    def _shape(self, piece: Piece, arguments: dict[str, Any]) -> Shape:
        key = tuple((k, *kind_of(v)) for k, v in sorted(arguments.items()))
        if key not in self.programs:
            with named(piece):
                target, analysis = self._analysed(piece, arguments)
                check_fixed(target)
                shape = shape_of(target.model, analysis, self.plate, self.iterations)
                self.plate = shape.parts.plate
                self._check_shapes(shape.parts)
            if not self.programs:
                self.target = target
            self.arrays[shape] = target.model.energy.arrays
            self.programs[key] = shape
        return self.programs[key]

    def _analysed(self, piece: Piece, arguments: dict[str, Any]) -> tuple[ConjugateTarget, Analysis]:
        options: Any = {"precision": self.precision, "check": not self.programs}
        try:
            return batch_target(self.fn, arguments, **options)
        except (ModelError, DataError):
            rows = next((len(v) for k, v in arguments.items() if k not in piece.shared and np.ndim(v)), self.size)
            if self.size is None or rows is None or rows == self.size:
                raise
            try:  # a plate whose size is written down for all rows
                return batch_target(resized(self.fn, self.size, rows), arguments, **options)
            except (ModelError, DataError):
                pass
            raise

    def _check_additive(self, piece: Piece, shape: Shape) -> None:
        with working("double"), validation_enabled(False), named(piece):
            arrays, fixed = shape.analysis.divided(read(self.fn, piece.arguments, "double"))
            if shape.additive is None:
                written = (shape.rows, self.size or shape.rows)
                what = (shape.model.sites, shape.parts.plate, shape.rows)
                shape.additive = Additivity(self.fn, *what, fixed, written)
            shape.additive.run(arrays, piece.shared, piece.padded)

    @property
    def parameters(self) -> int:
        """Numbers in the natural parameters of the globals."""
        return sum(int(np.prod(s)) for n in self.order for s in self.model.blocks[n].shapes.values())

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
        tolerance = self.local_tolerance(loose)
        return self._summed(batch, size, lambda shape, data, w: shape.gather(moments, data, w, tolerance))

    def local_tolerance(self, loose: float = 1.0) -> Any:
        """How far the last round over several local blocks may move them, in nats a row."""
        return np.asarray(loose * self.tolerance, float_type(self.precision))

    def begun(self, start: Callable[[Shape], Moments], batch: Batch, size: int) -> Sums:
        """The statistics of local moments that are given."""
        return self._summed(batch, size, lambda shape, data, w: shape.begin(start(shape), data, w))

    def local_naturals(self, moments: Moments, batch: Batch, loose: float = 1.0) -> list[Naturals]:
        """Natural parameters of the local factors of every piece, at the optimum of its rows."""
        found = []
        for piece in batch:
            shape = self.program(piece)
            found.append(shape.naturals(moments, self.inputs(piece, shape)[0], self.local_tolerance(loose)))
        return found

    def _summed(self, batch: Batch, size: int | None, work: Callable[..., Any]) -> Sums:
        shapes = [self.program(piece) for piece in batch]
        even = (size or 1) / sum(shape.rows for shape in shapes)
        total = Sums({}, 0.0)
        for piece, shape in zip(batch, shapes, strict=True):
            arrays, weights = self.inputs(piece, shape, even)
            part, bound = work(shape, arrays, weights)
            total = total + Sums({shape: part}, bound, float(weights.sum()))
        return total

    def inputs(self, piece: Piece, shape: Shape, even: float = 1.0) -> tuple[Any, np.ndarray]:
        """The arrays that the model makes of a piece, its values checked, and the weights of its rows."""
        kind, arguments = float_type(self.precision), self._known[piece][0]
        weights = even if piece.weights is None else piece.weights
        found = shape.analysis.program(shape.analysis.divided(arguments)[0])
        weights = np.broadcast_to(np.asarray(weights, kind), (shape.rows,))
        if self.checked:
            return found[: len(found) - shape.analysis.outside], weights
        masked = {s.data_key for s in shape.model.sites.values() if s.masked and s.data_key}
        check_missing(arguments, masked, place_of(piece), found[: len(found) - shape.analysis.outside])
        self._check_compared(piece, shape, masked)
        return shape.analysis.checked(found, position_of(piece, shape.parts.plate)), weights

    def _check_compared(self, piece: Piece, shape: Shape, masked: set[Any]) -> None:
        """Whether the model fills NaN is a matter of the program: one piece of each shape with gaps shows it."""
        arrays, fixed = shape.analysis.divided(self._known[piece][0])
        gaps = (shape, *missing(arrays, masked))
        if len(gaps) > 1 and gaps not in self.filled:
            with working(self.precision):
                check_compared(shape.analysis.fn, arrays, fixed, masked, place_of(piece))
            self.filled.add(gaps)

    def rows_of(self, piece: Piece) -> int:
        """Rows of a piece."""
        return self.program(piece).rows

    def entries_of(self, batch: Batch) -> int:
        """Observed scalars of a batch; rows, where there are more (all data may enter by factors)."""
        shapes = [self.program(piece) for piece in batch]
        return sum(max(shape.model.rows, shape.rows) for shape in shapes)

    @property
    def scalars(self) -> float:
        """The same for all rows, from the first piece."""
        return max(self.rest.model.rows / self.rest.rows, 1.0) * (self.size or self.rest.rows)

    def product(self, naturals: Naturals) -> Product:
        """The global factors."""
        factors = {name: self.model.factor(name, naturals[name]) for name in self.order}
        return Product(factors, tuple((name, self.model.blocks[name].sites) for name in self.order))

    def check_inside(self, inside: np.ndarray, naturals: Naturals) -> None:
        """Raise where a block's factor cannot be normalised."""
        for name, ok in zip(self.order, inside, strict=True):
            if not ok:
                raise improper(name, "", self.model.sites[self.model.blocks[name].sites[0]].where)

    def finite(self, elbo: float) -> float:
        """The bound, or an error where it is not finite."""
        return finite(elbo, self.order)

    def noise(self, elbo: float, scalars: float) -> float:
        """Rounding of a bound, in nats."""
        return (1e-11 if self.precision == "double" else 3e-5) * (abs(elbo) + scalars)

    def whole(self, moments: Moments, batches: Iterable[Batch]) -> Sums:
        """The statistics of every row; raises a `DataError` where a pass has other rows than it should.

        Rows without latents say the same whatever the globals are: they are read once.
        """
        if self._constant is not None:
            return self._constant.at(moments, self.arrays)
        total = None
        for batch in batches:
            sums = self.gather(moments, batch)
            total = sums if total is None else total + sums
        self.check_rows(0.0 if total is None else total.count)
        assert total is not None  # or there were no rows
        if not self.rest.parts.local:
            self._constant = total
        return total

    def check_rows(self, rows: float) -> None:
        """Raise unless a pass had all rows."""
        if self.size is not None and abs(rows - self.size) > 0.5:
            raise DataError(
                f"A pass over the batches yields {rows:.0f} rows, but there are {self.size}.",
                f"Plate '{self.plate}'.",
                "A function must return a fresh iterable at every call, with the same rows; size is their number.",
            )

    def update(self, moments: Moments, naturals: Naturals, sums: Sums, rate: float) -> Any:
        """(moments, naturals, bound before, KL(q ‖ q') + KL(q' ‖ q), blocks in domain) after λ ← (1 - ρ) λ + ρ λ̂."""
        shapes = tuple(sums.parts)
        values = tuple(sums.parts[shape] for shape in shapes)
        program = update_program(self.rest, self.order, shapes, self.parameters)
        known = tuple(self.arrays[shape] for shape in shapes)
        step = np.asarray(rate, float_type(self.precision))
        return program(moments, naturals, values, sums.bound, step, known, self.arrays[self.rest])


def _mixed(mean: Naturals, new: Naturals, share: Any) -> Naturals:
    return jax.tree.map(lambda a, b: a + share * (b - a), mean, new)


_AVERAGED = Program(_mixed)
