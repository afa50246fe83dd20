"""A model seen as rows of one plate: found, cut, and checked to be the same however the rows are grouped."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._amortised.model.layout import RowLayout, layout_of
from jensen._amortised.model.model import RowModel
from jensen._base.errors import DataError, ModelError, nearest
from jensen._core import AbstractTarget
from jensen._data.columns import first
from jensen._data.data_check import as_mapping, check_names, convert, missing
from jensen._math.precision import Precision, float_type, working
from jensen._math.programs import Program
from jensen._model import build
from jensen._model.door import read
from jensen._model.numpyro import NumPyroModel
from jensen._model.parameters import LEARNED, Charts, Closed, Parameter
from jensen._model.program import BoundProgram
from jensen._model.row_subsets import Cut, check_alone, cut_along
from jensen._program.indices import check_indices
from jensen._program.structure import Structure

FEW = 8
"""Rows on which the model is checked."""


class RowTarget(AbstractTarget):
    """A program, its parameters, and its rows.

    Attributes:
        fn: the program, closed over its parameters if it has any. data: its arguments, without them.
        parameters: what is learned. charts: their constraints. start: their unconstrained starting values.
        along: how the arguments are cut by rows. cut: those that are. size: rows N.
        layout: where rows lie in the sites.
        structure, program: of all rows. held: rows that were left out of all this, by argument, if there are any.
        gradients, values: log joint evaluations of a row so far, with and without gradient.
    """

    fn: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    structure: Structure
    data: dict[str, Any]
    along: Cut
    cut: tuple[str, ...]
    plate: str
    size: int
    charts: Charts
    start: dict[str, np.ndarray]

    def __init__(self, fn: Callable[..., Any], parameters: tuple[Parameter, ...], cut: Cut, structure: Structure):
        self.fn, self.parameters, self.structure = fn, parameters, structure
        self.data = {name: value for name, value in cut.arguments.items() if name != LEARNED}
        self.along, self.cut = cut, cut.names
        self.precision: Precision = cut.precision
        self.plate, self.size = cut.plate.name, cut.plate.size
        self.layout: RowLayout = layout_of(structure, self.plate)
        self.charts = Charts({p.name: p.support for p in parameters})
        kind = float_type(self.precision)
        with working(self.precision):
            initial = {p.name: np.asarray(p.initial, kind) for p in parameters}
            self.start = {name: np.asarray(v, kind) for name, v in self.charts.points(initial).items()}
        self.initial: dict[str, Any] = initial
        self.gradients = self.values = 0
        self._models: dict[int, RowModel] = {}
        self.encoder: Any = None
        self.held: dict[str, np.ndarray] = {}

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The arrays with one entry for each row."""
        return {name: self.data[name] for name in self.cut}

    def model(self, count: int) -> RowModel:
        """The program on `count` rows; their data are given later, by `RowModel.at`."""
        if count not in self._models:
            model = self.along.on(np.arange(count) % self.size).model.handled
            check_learned(self.parameters, model)
            layout = layout_of(model.bijection.structure, self.plate)
            self._models[count] = RowModel(model, layout, count, self.charts)
        return self._models[count]

    @property
    def program(self) -> BoundProgram:
        """The program with all rows, at the starting values of its parameters."""
        return self.program_at(self.initial)

    def program_at(self, values: Mapping[str, Any]) -> BoundProgram:
        """The program with all rows at these parameters."""
        learned = {LEARNED: dict(values)} if self.parameters else {}
        whole = build(self.fn, {**self.data, **learned}, self.precision, discrete=True).model.handled
        return BoundProgram(self.fn, whole.data, whole.fixed.value, self.precision)

    def new_rows(self, data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
        """Other rows for the same program, checked: (arrays by argument, their number)."""
        given = as_mapping(data)
        for name in given:
            if name not in self.cut:
                known = name in self.data
                raise DataError(
                    f"'{name}' is {'the same for all rows' if known else 'not an argument of the model'}.",
                    f"Data key: '{name}'.",
                    "Give new rows only; what they share stays as it was fitted." if known else nearest(name, self.cut),
                )
        lacking = [name for name in self.cut if name not in given]
        if lacking:
            raise DataError(
                f"New rows need {', '.join(map(repr, lacking))}.",
                f"Arguments with one entry for each row: {', '.join(self.cut)}.",
                "Pass them all: the encoder reads them.",
            )
        learned = {LEARNED: self.initial} if self.parameters else {}
        whole = read(self.fn, {**self.data, **given, **learned}, self.precision)
        arguments = {name: whole[name] for name in self.cut}
        counts = {name: np.shape(arguments[name])[:1] for name in self.cut}
        for name in self.cut:
            shape, known = np.shape(arguments[name]), self.data[name].shape
            if shape[1:] != known[1:] or not shape:
                raise DataError(
                    f"New rows of '{name}' have the shape {shape[1:]}, those of the fit {known[1:]}.",
                    f"Data key: '{name}', shape {shape}; that of the fit was {known}.",
                    "Pass rows of the same shape, stacked along the first axis (a single row as x[None]).",
                )
            arguments[name] = _as_fitted(name, arguments[name], self.data[name].dtype)
        if len(set(counts.values())) > 1:
            raise DataError("New rows differ in number.", f"Rows: {counts}.", "Give every argument as many rows.")
        whole = {**whole, **arguments}
        check_indices(self.fn, whole, self.precision)
        if missing(arguments, set()):  # whether the program fills or masks them is for its analysis to say
            build(self.fn, whole, self.precision, discrete=True, evaluable=False)
        return arguments, next(iter(counts.values()))[0]

    def check_rows(self, seed: int = 0) -> None:
        """Raise where a row's terms depend on which other rows there are, or its shape on how many."""
        few = min(FEW, self.size)
        half = max(1, few // 2)
        whole, part = self.model(few), self.model(half)
        rng, kind = np.random.default_rng(seed), float_type(self.precision)
        point = (0.3 * rng.normal(size=(few, self.layout.dim))).astype(kind)
        shared = (0.3 * rng.normal(size=self.layout.shared_dim)).astype(kind)
        chosen = np.sort(rng.choice(few, half, replace=False))
        codes = {code.name: np.zeros(whole_shape(whole, code.name), int) for code in self.layout.codes}
        lows = {code.name: getattr(code.site.support, "lower_bound", 0) for code in self.layout.codes}
        codes = {name: value + int(np.min(lows[name])) for name, value in codes.items()}
        axes = {code.name: code.axis for code in self.layout.codes}
        fewer = {name: np.take(value, chosen, axes[name]) for name, value in codes.items()}
        first = {name: value[:few] for name, value in self.rows.items()}
        second = {name: value[:few][chosen] for name, value in self.rows.items()}
        with working(self.precision):
            run = Program(lambda model, *at: model.terms(*at))
            among = jax.device_get(run(whole.at(first), point, codes, shared, self.start))
            alone = jax.device_get(run(part.at(second), point[chosen], fewer, shared, self.start))
        tolerance = 1e-6 if self.precision == "double" else 1e-3
        check_alone(self.along.plate, self.layout.inside, among, alone, chosen, few, tolerance)


def _as_fitted(name: str, value: np.ndarray, dtype: Any) -> np.ndarray:
    """The rows in the type of those of the fit; raise where that would change their values."""
    with np.errstate(invalid="ignore"):
        same = value.astype(dtype)
    if not np.array_equal(value, same, equal_nan=value.dtype.kind == "f" and same.dtype.kind == "f"):
        raise DataError(
            f"New rows of '{name}' are no {'truth values' if same.dtype == bool else 'whole numbers'}, as those of the "
            "fit were.",
            first(name, value != same),
            "Pass rows of the same kind.",
        )
    return same


def check_learned(parameters: tuple[Parameter, ...], model: NumPyroModel) -> None:
    """Raise where the program needs its parameters as concrete numbers."""
    if parameters and LEARNED not in model.data:
        raise ModelError(
            "The model needs its parameters as concrete numbers while it is built, so they cannot be learned.",
            f"Parameters: {', '.join(p.name for p in parameters)}.",
            "Use jnp functions and jnp.where instead of Python's if on them.",
        )


def whole_shape(model: RowModel, name: str) -> tuple[int, ...]:
    """The shape of a site's value in this model."""
    return model.model.bijection.structure.sites[name].shape


def row_target(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    precision: Precision,
    parameters: tuple[Parameter, ...] = (),
    plate: str | None = None,
) -> RowTarget:
    """Analyse a program along one plate: the one named, or the largest that holds latents and is cut with the data."""
    taken = {p.name for p in parameters if p.kind == "argument"}
    given = {name: value for name, value in as_mapping(data).items() if name not in taken}
    program: Any = Closed(fn, parameters) if parameters else fn
    arguments = convert(given, precision)
    learned = {LEARNED: {p.name: p.initial for p in parameters}} if parameters else {}
    check_names(program, {**arguments, **learned})
    target = build(program, {**arguments, **learned}, precision, discrete=True, evaluable=False)
    structure = target.structure
    learned_too = {**arguments, **learned}
    cut = cut_along(program, learned_too, target, plate, discrete=True, latents=True, leading=True)
    for site in structure.latents:
        if site.discrete and all(p.name != cut.plate.name for p in site.plates):
            raise ModelError(
                f"The discrete latent '{site.name}' lies outside the plate '{cut.plate.name}'.",
                f"Site '{site.name}', {site.distribution}.",
                "Give each row its own inside the plate, or use 'bbvi' or 'cavi'.",
            )
    found = RowTarget(program, parameters, cut, structure)
    found.check_rows()
    return found
