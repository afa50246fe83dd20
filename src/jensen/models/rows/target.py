"""A model seen as rows of one plate: found, cut, and checked to be the same however the rows are grouped."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._errors import DataError, ModelError, OptionError, nearest
from jensen.math.precision import Precision, float_type, working
from jensen.math.programs import Program
from jensen.models.build import build
from jensen.models.data_check import as_mapping, check_names, convert
from jensen.models.learning import LEARNED, Charts, Closed, Parameter
from jensen.models.numpyro import NumPyroModel
from jensen.models.program import NumPyroProgram
from jensen.models.rows.layout import RowLayout, layout_of
from jensen.models.rows.model import RowModel
from jensen.models.structure import Structure

FEW = 8
"""Rows on which the model is checked."""


class RowTarget:
    """A program, its parameters, and its rows.

    Attributes:
        fn: the program, closed over its parameters if it has any. data: its arguments, without them.
        parameters: what is learned. charts: their constraints. start: their unconstrained starting values.
        size: rows N. cut: arguments with one entry for each row. layout: where rows lie in the sites.
        structure, program: of all rows.
        gradients, values: log joint evaluations of a row so far, with and without gradient.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        parameters: tuple[Parameter, ...],
        data: dict[str, Any],
        structure: Structure,
        plate: str,
        cut: tuple[str, ...],
        precision: Precision,
    ):
        self.fn, self.parameters, self.data, self.structure, self.cut = fn, parameters, data, structure, cut
        self.precision: Precision = precision
        self.plate, self.size = plate, structure.plates[plate].size
        self.layout: RowLayout = layout_of(structure, plate)
        self.charts = Charts({p.name: p.support for p in parameters})
        kind = float_type(precision)
        with working(precision):
            initial = {p.name: np.asarray(p.initial, kind) for p in parameters}
            self.start = {name: np.asarray(v, kind) for name, v in self.charts.points(initial).items()}
        self.initial = initial
        self.gradients = self.values = 0
        self._models: dict[int, RowModel] = {}
        self.encoder: Any = None

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The arrays with one entry for each row."""
        return {name: self.data[name] for name in self.cut}

    def model(self, count: int) -> RowModel:
        """The program on `count` rows; their data are given later, by `RowModel.at`."""
        if count not in self._models:
            index = np.arange(count) % self.size
            self._models[count] = self._built({name: value[index] for name, value in self.rows.items()}, count)
        return self._models[count]

    def _built(self, rows: dict[str, np.ndarray], count: int) -> RowModel:
        arguments = {**self.data, **rows}
        if self.parameters:
            arguments[LEARNED] = self.initial
        model = build(self.fn, arguments, self.precision, discrete=True).model
        assert isinstance(model, NumPyroModel)  # as the whole of it is
        structure = model.bijection.structure
        found = structure.plates[self.plate].size if self.plate in structure.plates else 0
        if found != count:
            raise ModelError(
                f"With {count} of its {self.size} rows the model's plate '{self.plate}' still has {found}.",
                f"Plate '{self.plate}'; arguments cut by rows: {', '.join(self.cut)}.",
                "Take its size from the data inside the model, len(x), so that it can be run on some of the rows.",
            )
        if self.parameters and LEARNED not in model.data:
            raise ModelError(
                "The model needs its parameters as concrete numbers while it is built, so they cannot be learned.",
                f"Parameters: {', '.join(p.name for p in self.parameters)}.",
                "Use jnp functions and jnp.where instead of Python's if on them.",
            )
        kept = [name for name in self.cut if name not in model.data]
        if kept:
            raise ModelError(
                f"The model needs the values of {', '.join(map(repr, kept))} before it can be analysed, and they "
                "differ by row.",
                f"Data key: '{kept[0]}'.",
                "Pass sizes and other numbers that shape the model as plain integers, the same for all rows.",
            )
        if any(site.name in model.bijection.bounds for site in self.layout.continuous):
            raise ModelError(
                f"The support of a latent in the plate '{self.plate}' has bounds that are data.",
                f"Sites: {', '.join(model.bijection.bounds)}.",
                "Sample a fraction on (0, 1) and scale it inside the model.",
            )
        return RowModel(model, layout_of(structure, self.plate), count, self.charts)

    @property
    def program(self) -> NumPyroProgram:
        """The program with all rows, at the starting values of its parameters."""
        return self.program_at(self.initial)

    def program_at(self, values: Mapping[str, Any]) -> NumPyroProgram:
        """The program with all rows at these parameters."""
        learned = {LEARNED: dict(values)} if self.parameters else {}
        whole = build(self.fn, {**self.data, **learned}, self.precision, discrete=True).model
        assert isinstance(whole, NumPyroModel)
        return NumPyroProgram(self.fn, whole.data, whole.fixed.value, self.precision)

    def new_rows(self, data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
        """Other rows for the same program, checked: (arrays by argument, their number)."""
        arguments = convert(as_mapping(data), self.precision)
        for name in arguments:
            if name not in self.cut:
                known = name in self.data
                raise DataError(
                    f"'{name}' is {'the same for all rows' if known else 'not an argument of the model'}.",
                    f"Data key: '{name}'.",
                    "Give new rows only; what they share stays as it was fitted." if known else nearest(name, self.cut),
                )
        missing = [name for name in self.cut if name not in arguments]
        if missing:
            raise DataError(
                f"New rows need {', '.join(map(repr, missing))}.",
                f"Arguments with one entry for each row: {', '.join(self.cut)}.",
                "Pass them all: the encoder reads them.",
            )
        counts = {name: np.shape(arguments[name])[:1] for name in self.cut}
        for name in self.cut:
            shape, known = np.shape(arguments[name]), self.data[name].shape
            if shape[1:] != known[1:] or not shape:
                raise DataError(
                    f"New rows of '{name}' have the shape {shape[1:]}, those of the fit {known[1:]}.",
                    f"Data key: '{name}', shape {shape}; that of the fit was {known}.",
                    "Pass rows of the same shape, stacked along the first axis (a single row as x[None]).",
                )
            arguments[name] = np.asarray(arguments[name], self.data[name].dtype)
        if len(set(counts.values())) > 1:
            raise DataError("New rows differ in number.", f"Rows: {counts}.", "Give every argument as many rows.")
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
            run = Program(lambda model, *at: model.parts(*at))
            all_of = jax.device_get(run(whole.at(first), point, codes, shared, self.start))
            some = jax.device_get(run(part.at(second), point[chosen], fewer, shared, self.start))
        tolerance = 1e-6 if self.precision == "double" else 1e-3
        for what, a, b in (
            ("observations of a row", all_of.observed[chosen], some.observed),
            ("prior of a row's latents", all_of.latent[chosen], some.latent),
            ("observations outside the plate", all_of.shared_observed, some.shared_observed),
            ("prior of the shared latents", all_of.shared_latent, some.shared_latent),
        ):
            if not np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
                raise ModelError(
                    f"The rows of plate '{self.plate}' do not stand alone: the {what} are {np.ravel(a)[0]:.6g} nats "
                    f"among {few} rows and {np.ravel(b)[0]:.6g} among {half} of them.",
                    f"Plate '{self.plate}', arguments cut by rows: {', '.join(self.cut)}.",
                    "Compute what depends on all rows (means, scales, numbers of rows) outside the model and pass it "
                    "as an argument; an array that has as many entries as there are rows by chance counts as rows too: "
                    "transpose or reshape it.",
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
    plate, cut = _chosen(structure, arguments, plate)
    for site in structure.latents:
        if site.discrete and all(p.name != plate for p in site.plates):
            raise ModelError(
                f"The discrete latent '{site.name}' lies outside the plate '{plate}'.",
                f"Site '{site.name}', {site.distribution}.",
                "Give each row its own inside the plate, or use 'bbvi' or 'cavi'.",
            )
    found = RowTarget(program, parameters, arguments, structure, plate, cut, precision)
    found.check_rows()
    return found


def _chosen(structure: Structure, data: dict[str, Any], plate: str | None) -> tuple[str, tuple[str, ...]]:
    with_latents = {p.name: p for site in structure.latents for p in site.plates}
    if plate is not None and plate not in structure.plates:
        raise OptionError(f"The model has no plate '{plate}'.", "Option: plate.", nearest(plate, structure.plates))
    if plate is not None and plate not in with_latents:
        raise OptionError(
            f"The plate '{plate}' holds no latents, so there is nothing to infer row by row.",
            "Option: plate.",
            nearest(plate, with_latents),
        )
    candidates = [plate] if plate is not None else sorted(with_latents, key=lambda name: -with_latents[name].size)
    for name in candidates:
        size = with_latents[name].size
        cut = tuple(k for k, v in data.items() if isinstance(v, np.ndarray) and v.shape[:1] == (size,))
        if cut and size > 1:
            return name, cut
    sizes = ", ".join(f"'{p.name}' ({p.size})" for p in with_latents.values()) or "none"
    raise ModelError(
        "There is no plate of rows to amortise over: it must hold latents, and `data` arrays of its length.",
        f"Plates with latents: {sizes}; leading axes of the data: "
        f"{ {k: v.shape[0] for k, v in data.items() if isinstance(v, np.ndarray) and v.ndim} }.",
        "Write the latents of a row inside numpyro.plate('row', len(x)) and pass x with one row for each of them.",
    )
