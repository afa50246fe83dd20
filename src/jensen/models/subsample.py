"""A model on minibatches of the rows of one plate: each row stands for N / B of them, and a check that it may."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import JensenError, ModelError, OptionError, nearest
from jensen._typing import Array, Flat, Latent, Terms
from jensen.core import AbstractModel
from jensen.math.precision import Precision, float_type, working
from jensen.models.analysis import placeholders
from jensen.models.bijection import SiteBijection
from jensen.models.build import build
from jensen.models.data_check import as_mapping, convert
from jensen.models.numpyro import NumPyroModel
from jensen.models.structure import Plate, Structure, plate_axis


class RowBatch(eqx.Module):
    """Some rows of a plate: their indices (B,), the axis of each local latent that they index, and N / B."""

    rows: Array
    axes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    weight: float = eqx.field(static=True)


class RowsModel(AbstractModel):
    """The log joint of a batch, log p(θ) + N / B Σ_{n in batch} log p(z_n, x_n | θ), unbiased for the full one.

    Attributes:
        inner: the model analysed on B rows; its data hold all N. bijection: that of B rows.
        cut: for every array of the data the axis along which its rows are taken; `None` where it is shared.
        inside: the terms that are scaled. axes: local latents. weight: N / B.
    """

    inner: NumPyroModel
    bijection: SiteBijection
    cut: tuple[int | None, ...] = eqx.field(static=True)
    inside: frozenset[str] = eqx.field(static=True)
    axes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    weight: float = eqx.field(static=True)

    def batch(self, rows: Array) -> RowBatch:
        """These rows, as families and `log_joint` take them."""
        return RowBatch(rows, self.axes, self.weight)

    def on(self, batch: RowBatch) -> NumPyroModel:
        """The program on the rows of a batch, each counting once."""
        leaves, tree = jax.tree.flatten(self.inner.data)
        pairs = zip(leaves, self.cut, strict=True)
        taken = [leaf if axis is None else jnp.take(leaf, batch.rows, axis=axis) for leaf, axis in pairs]
        return dataclasses.replace(self.inner, data=jax.tree.unflatten(tree, taken))

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """Elementwise log densities, those inside the plate times N / B."""
        terms = self.on(batch).log_joint(latent)
        return {name: self.weight * term if name in self.inside else term for name, term in terms.items()}

    def constrain(self, point: Flat) -> Latent:
        """The latents at u."""
        return self.bijection.forward(point)[0]


class OneBatch(AbstractModel):
    """The same rows at every evaluation, each standing for N / B: an ordinary density, for a start near the optimum."""

    rows: RowsModel
    batch: RowBatch
    bijection: SiteBijection

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """Of these rows."""
        del batch
        return self.rows.log_joint(latent, self.batch)

    def constrain(self, point: Flat) -> Latent:
        """The latents at u."""
        return self.rows.constrain(point)


@dataclass(frozen=True, eq=False)
class Subsample:
    """The rows of `plate`, N = `size`, in batches of B = `batch_size`; `structure` is that of a batch."""

    model: RowsModel
    structure: Structure
    plate: str
    size: int
    batch_size: int

    def rows(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, B) indices: permutations of all rows, cut into batches; what is left over waits for the next."""
        each = self.size // self.batch_size
        epochs = [rng.permutation(self.size)[: each * self.batch_size] for _ in range(-(-count // each))]
        return np.concatenate(epochs).reshape(-1, self.batch_size)[:count].astype(np.int32)

    def batches(self, rng: np.random.Generator, count: int) -> RowBatch:
        """`count` batches side by side, for a loop over them."""
        return self.model.batch(jnp.asarray(self.rows(rng, count)))

    def first(self, seed: int = 0) -> RowBatch:
        """One batch at random."""
        return self.model.batch(jnp.asarray(self.rows(np.random.default_rng(seed), 1)[0]))

    def fixed(self, seed: int = 0) -> OneBatch:
        """The density of one batch at random."""
        return OneBatch(rows=self.model, batch=self.first(seed), bijection=self.model.bijection)

    @property
    def epoch(self) -> int:
        """Batches in one pass over the rows."""
        return self.size // self.batch_size


def subsampled(
    fn: Any,
    data: Mapping[str, Any] | None,
    full: tuple[Any, Structure],
    latent: Mapping[str, Any],
    batch_size: int,
    plate: str | None,
    precision: Precision,
    *,
    discrete: bool,
) -> Subsample:
    """The model on batches of one plate's rows.

    Every array of the data is cut along its first axis of the plate's size, and the program is analysed again on B
    rows. At `latent`, values of all latents, every term of two batches must equal the full model's, row by row:
    otherwise (a mean over all rows inside the program, say) this raises an error that names the term. `full` is the
    model of all rows with its structure.
    """
    model, structure = full
    if not isinstance(model, NumPyroModel):
        raise OptionError(
            "A plain log density has no plates, so there are no rows to take batches of.",
            "Option: batch_size.",
            "Write the model in NumPyro, with the rows in a numpyro.plate.",
        )
    with working(precision):
        chosen = _plate(structure, plate, batch_size)
        arguments = convert(as_mapping(data), precision)
        _check_fixed(model, chosen)
        batch, part = _analysed(fn, arguments, chosen, batch_size, precision, discrete)
        axes = _local(structure, chosen)
        bounds = getattr(model.bijection, "bounds", {})
        if moving := [name for name, _ in axes if name in bounds]:
            raise OptionError(
                f"The support of '{moving[0]}' has bounds that are data, one for each row.",
                "Option: batch_size.",
                "Sample it on a fixed support and scale it, or leave batch_size out.",
            )
        whole = {name: model.data.get(name, arguments[name]) for name in part.data}
        cut = tuple(_axis(leaf, chosen.size) for leaf in jax.tree.leaves(whole))
        inside = frozenset(_inside(part, batch, chosen))
        rows = RowsModel(
            inner=dataclasses.replace(part, data=whole),
            bijection=part.bijection,
            cut=cut,
            inside=inside,
            axes=axes,
            weight=chosen.size / batch_size,
        )
        found = Subsample(rows, batch, chosen.name, chosen.size, batch_size)
        _check(found, model, latent, chosen, float(np.sqrt(np.finfo(float_type(precision)).eps)))
    return found


def _plate(structure: Structure, name: str | None, batch_size: int) -> Plate:
    plates = structure.plates
    if name is not None and name not in plates:
        raise OptionError(f"There is no plate '{name}'.", "Option: plate.", nearest(name, plates))
    candidates = [plates[name]] if name is not None else list(plates.values())
    if not candidates:
        raise OptionError(
            "The model has no plate, so there are no rows to take batches of.",
            "Option: batch_size.",
            "Put the rows in a numpyro.plate, or leave batch_size out.",
        )
    chosen = max(candidates, key=lambda plate: plate.size)
    if batch_size > chosen.size:
        raise OptionError(
            f"batch_size is {batch_size}, but the plate '{chosen.name}' has {chosen.size} rows.",
            "Option: batch_size.",
            "Use at most as many rows as there are.",
        )
    return chosen


def _axis(leaf: Any, size: int) -> int | None:
    """The first axis of the plate's size."""
    return next((axis for axis, n in enumerate(np.shape(leaf)) if n == size), None)


def _check_fixed(model: NumPyroModel, plate: Plate) -> None:
    for name, value in model.fixed.value.items():
        if isinstance(value, np.ndarray) and _axis(value, plate.size) is not None:
            raise OptionError(
                f"The program needs '{name}' as concrete values (for a shape or a branch), so its rows cannot be taken "
                "batch by batch.",
                f"Data key: '{name}', shape {value.shape}.",
                "Pass what is computed from it as a number of its own, or leave batch_size out.",
            )


def _analysed(
    fn: Any, arguments: dict[str, Any], plate: Plate, batch_size: int, precision: Precision, discrete: bool
) -> tuple[Structure, NumPyroModel]:
    """The program on the first B rows; a number of rows given as an argument becomes B where it has to."""

    def first(value: Any) -> Any:
        axis = _axis(value, plate.size) if isinstance(value, np.ndarray) else None
        return value if axis is None else np.take(value, np.arange(batch_size), axis=axis)

    cut = {name: jax.tree.map(first, value) for name, value in arguments.items()}
    counted = {k: batch_size if type(v) is int and v == plate.size else v for k, v in cut.items()}
    error: JensenError | None = None
    for attempt in (cut, counted):
        try:
            target = build(fn, attempt, precision, discrete=discrete)
        except JensenError as refused:
            error = error or refused
            continue
        if target.structure.plates[plate.name].size == batch_size:
            assert isinstance(target.model, NumPyroModel)
            return target.structure, target.model
    raise OptionError(
        f"The model cannot be run on {batch_size} of the {plate.size} rows of '{plate.name}'"
        + (f": {error.what}" if error else ": the plate keeps its size."),
        "Option: batch_size.",
        f"Take the plate's size from the data, numpyro.plate('{plate.name}', len(y)), with rows on one axis "
        "of every array.",
    )


def _local(structure: Structure, plate: Plate) -> tuple[tuple[str, int], ...]:
    """Latents of the plate and their axis."""
    axes = [(site.name, plate_axis(site, plate.name)) for site in structure.latents]
    return tuple((name, axis) for name, axis in axes if axis is not None)


def _inside(part: NumPyroModel, batch: Structure, plate: Plate) -> list[str]:
    """The terms that belong to rows; a sum over a latent outside the plate would couple them."""
    summed = {site.name for site in batch.summed}
    latents = {name: shape for name, shape in placeholders(batch).items() if name not in summed}
    names = jax.eval_shape(part.log_joint, latents)
    out = []
    for name in names:
        members = [batch.sites[one] for one in name.split(" + ") if one in batch.sites]
        own = [any(p.name == plate.name for p in site.plates) for site in members]
        if any(own) and not all(own):
            outside = next(site.name for site, is_in in zip(members, own, strict=True) if not is_in)
            raise OptionError(
                f"'{outside}' is summed out, and it is outside the plate '{plate.name}': all of its rows have to be "
                "there for that.",
                "Option: batch_size.",
                "Leave batch_size out, or use method='bbvi', which keeps a factor for it.",
            )
        if own and all(own):
            out.append(name)
    return out


def _check(found: Subsample, model: NumPyroModel, latent: Mapping[str, Any], plate: Plate, tolerance: float) -> None:
    """Terms of two batches against those of all rows."""
    whole = {k: np.asarray(v, float) for k, v in jax.jit(lambda m, z: m.log_joint(z))(model, dict(latent)).items()}
    on = jax.jit(lambda m, z, rows: m.on(m.batch(rows)).log_joint(z))
    axes = dict(found.model.axes)
    for rows in found.rows(np.random.default_rng(1), 2):
        own = {
            name: np.take(np.asarray(value), rows, axis=axes[name]) if name in axes else value
            for name, value in latent.items()
        }
        for name, term in on(found.model, own, rows).items():
            want, got = whole.get(name), np.asarray(term, float)
            if want is not None and name in found.model.inside:
                want = np.take(want, rows, axis=want.ndim + plate.dim)
            same = want is not None and want.shape == got.shape
            if want is None or not same or not np.allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True):
                raise ModelError(
                    f"The term '{name}' of {len(rows)} rows is not the one that these rows have among all "
                    f"{plate.size}, so that batches of rows would not stand for the data.",
                    f"Plate '{plate.name}', size {plate.size}.",
                    "Inside the program a row may depend on its own data only: compute what depends on all rows (a "
                    "mean, a total) before, and pass it as data. Rows are taken along the first axis of the plate's "
                    "size.",
                )
