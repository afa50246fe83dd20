"""The rows of one plate in a program's arguments: found, taken, and the program built on some of them.

Everything that works on some rows at a time goes through here: batches of rows (`jensen._model.subsample`) and rows
one by one (`jensen._amortised.model`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jensen._base.errors import JensenError, ModelError, OptionError, nearest
from jensen._math.precision import Precision
from jensen._model.build import build
from jensen._model.target import Target
from jensen._program.structure import Plate, Structure, plate_axis


@dataclass(frozen=True, eq=False)
class Cut:
    """A program whose arguments hold the rows of a plate.

    Attributes:
        fn: the program. arguments: of all rows, converted. plate: whose rows they are.
        axes: argument -> for each of its arrays the axis along which rows lie, `None` where it is shared.
        discrete: whether discrete latents are kept, not summed out.
    """

    fn: Any
    arguments: dict[str, Any]
    plate: Plate
    axes: dict[str, tuple[int | None, ...]]
    precision: Precision
    discrete: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that hold rows."""
        return tuple(name for name, axes in self.axes.items() if any(axis is not None for axis in axes))

    def taken(self, rows: np.ndarray) -> dict[str, Any]:
        """The arguments that hold rows, with these only."""
        return {name: along(self.arguments[name], self.axes[name], rows) for name in self.names}

    def on(self, rows: np.ndarray) -> Target:
        """The program analysed on these rows; a number of rows given as an argument becomes theirs where it has to."""
        count, size, name = len(rows), self.plate.size, self.plate.name
        taken = {**self.arguments, **self.taken(rows)}
        counted = {k: count if type(v) is int and v == size else v for k, v in taken.items()}
        error: JensenError | None = None
        for attempt in (taken, counted):
            try:
                target = build(self.fn, attempt, self.precision, discrete=self.discrete)
            except JensenError as refused:
                error = error or refused
                continue
            plates = target.structure.plates
            if name in plates and plates[name].size == count:
                check_cut(self, target)
                return target
        raise ModelError(
            f"The model cannot be run on {count} of the {size} rows of '{name}'"
            + (f": {error.what}" if error else ": the plate keeps its size."),
            f"Plate '{name}', size {size}; arguments cut by rows: {', '.join(self.names) or 'none'}.",
            f"Take the plate's size from the data, numpyro.plate('{name}', len(y)), with rows on one axis of every "
            "array.",
        )


def cut_along(
    fn: Any,
    arguments: dict[str, Any],
    target: Target,
    plate: str | None,
    *,
    discrete: bool,
    latents: bool = False,
    leading: bool = False,
) -> Cut:
    """The rows of the plate named, or of the largest one whose rows the data hold.

    An array holds rows along its first axis of the plate's size.

    `target` is the program's analysis with all rows. With `latents` the plate must hold some: they are what is inferred
    row by row. With `leading` rows are looked for along the first axis of arguments that are arrays themselves, and
    nowhere else: then rows can be stacked, and others come in their place.
    """
    if target.model.handled is None:
        raise OptionError(
            "A plain log density has no plates, so there are no rows to take some of.",
            "Option: batch_size.",
            "Write the model in NumPyro, with the rows in a numpyro.plate.",
        )
    known = _plates(target.structure, latents)
    if plate is not None and plate not in target.structure.plates:
        raise OptionError(f"There is no plate '{plate}'.", "Option: plate.", nearest(plate, target.structure.plates))
    if plate is not None and plate not in known:
        raise OptionError(
            f"The plate '{plate}' holds no latents, so there is nothing to infer row by row.",
            "Option: plate.",
            nearest(plate, known),
        )
    candidates = [known[plate]] if plate is not None else sorted(known.values(), key=lambda one: -one.size)
    for one in candidates:
        axes = {name: _axes(value, one.size, leading) for name, value in arguments.items()}
        found = Cut(fn, arguments, one, axes, target.precision, discrete)
        if found.names and one.size > 1:
            check_cut(found, target)
            return found
    leads = {k: v.shape[0] for k, v in arguments.items() if isinstance(v, np.ndarray) and v.ndim}
    raise ModelError(
        f"The model has no plate of rows{' with latents' if latents else ''} that the data hold: there is nothing to "
        "take some of.",
        f"Plates: {', '.join(f'{p.name!r} ({p.size})' for p in candidates) or 'none'}; leading axes of the data: "
        f"{leads}.",
        f"Write {'the latents of a row' if latents else 'the rows'} inside numpyro.plate('row', len(x)) and pass x "
        "with one row for each of them.",
    )


def _plates(structure: Structure, latents: bool) -> Mapping[str, Plate]:
    return {p.name: p for site in structure.latents for p in site.plates} if latents else structure.plates


def _axes(value: Any, size: int, leading: bool) -> tuple[int | None, ...]:
    if leading:
        return (0 if isinstance(value, np.ndarray) and value.shape[:1] == (size,) else None,)
    return tuple(
        next((axis for axis, n in enumerate(np.shape(leaf)) if n == size), None)
        if isinstance(leaf, np.ndarray)
        else None
        for leaf in jax.tree.leaves(value)
    )


def along(value: Any, axes: tuple[int | None, ...], rows: Any, take: Any = np.take) -> Any:
    """These rows of every array of a tree that holds rows."""
    leaves, tree = jax.tree.flatten(value)
    pairs = zip(leaves, axes, strict=True)
    return jax.tree.unflatten(tree, [leaf if axis is None else take(leaf, rows, axis=axis) for leaf, axis in pairs])


def check_cut(cut: Cut, target: Target) -> None:
    """Raise where rows are needed before the program can be analysed, or where they bound a latent's support."""
    model = target.model.handled
    needed = [name for name in cut.names if name in model.fixed.value]
    if needed:
        raise ModelError(
            f"The program needs '{needed[0]}' as concrete values (for a shape or a branch), and they differ by row.",
            f"Data key: '{needed[0]}'.",
            "Pass what is computed from it as a number of its own, the same for all rows.",
        )
    local = [site.name for site in target.structure.latents if plate_axis(site, cut.plate.name) is not None]
    moving = [name for name in local if name in model.bijection.bounds]
    if moving:
        raise ModelError(
            f"The support of '{moving[0]}' has bounds that are data, one for each row.",
            f"Site '{moving[0]}', plate '{cut.plate.name}'.",
            "Sample a fraction on (0, 1), a fixed support, and scale it inside the model.",
        )


def check_alone(
    plate: Plate,
    inside: frozenset[str],
    whole: Mapping[str, Any],
    part: Mapping[str, Any],
    rows: np.ndarray,
    among: int,
    tolerance: float,
) -> None:
    """Raise where the terms of some rows are not those that the same rows have among more of them.

    `whole` are log densities of `among` rows, `part` those of the ones at the positions `rows` by themselves; the terms
    `inside` the plate (that of all rows) have one entry for each row.
    """
    for name, term in part.items():
        got, want = np.asarray(term, float), whole.get(name)
        if want is not None:
            want = np.asarray(want, float)
            want = np.take(want, rows, axis=want.ndim + plate.dim) if name in inside else want
        if want is not None and want.shape == got.shape:
            wrong = ~np.isclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
            if not wrong.any():
                continue
            values = f"it is {want[wrong][0]:.6g} nats among {among} rows and {got[wrong][0]:.6g} among {len(rows)}"
        else:
            values = "it has another shape"
        raise ModelError(
            f"The rows of plate '{plate.name}' do not stand alone: the term '{name}' of {len(rows)} rows is not what "
            f"they have among {among} ({values}), so that some rows would not stand for the data.",
            f"Term '{name}', plate '{plate.name}', size {plate.size}.",
            "Inside the program a row may depend on its own data only: compute what depends on all rows (a mean, a "
            "total, their number) before, and pass it as data. An array with as many entries as there are rows counts "
            "as rows: transpose or reshape one that is shared.",
        )


__all__ = ["Cut", "along", "check_alone", "check_cut", "cut_along"]
