"""A model on minibatches of the rows of one plate: each row stands for N / B of them, and a check that it may."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import OptionError
from jensen._base.typing import Array, Flat, Latent, Terms
from jensen._core import AbstractModel
from jensen._data.data_check import as_mapping, convert
from jensen._math.precision import float_type, working
from jensen._model.numpyro import NumPyroModel
from jensen._model.row_subsets import along, check_alone, cut_along
from jensen._model.target import Target
from jensen._program.analysis import placeholders
from jensen._program.bijection import AbstractChart
from jensen._program.structure import Plate, Structure, plate_axis


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
    bijection: AbstractChart
    cut: tuple[int | None, ...] = eqx.field(static=True)
    inside: frozenset[str] = eqx.field(static=True)
    axes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    weight: float = eqx.field(static=True)

    def batch(self, rows: Array) -> RowBatch:
        """These rows, as families and `log_joint` take them."""
        return RowBatch(rows, self.axes, self.weight)

    def on(self, batch: RowBatch) -> NumPyroModel:
        """The program on the rows of a batch, each counting once."""
        return dataclasses.replace(self.inner, data=along(self.inner.data, self.cut, batch.rows, jnp.take))

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
    bijection: AbstractChart

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
    target: Target,
    latent: Mapping[str, Any],
    batch_size: int,
    plate: str | None,
    *,
    discrete: bool,
) -> Subsample:
    """The model on batches of one plate's rows.

    Every array of the data is cut along its first axis of the plate's size, and the program is analysed again on B
    rows. At `latent`, values of all latents, every term of two batches must equal the full model's, row by row:
    otherwise (a mean over all rows inside the program, say) this raises an error that names the term. `target` is the
    model of all rows.
    """
    precision = target.precision
    with working(precision):
        arguments = convert(as_mapping(data), precision)
        cut = cut_along(fn, arguments, target, plate, discrete=discrete)
        chosen = cut.plate
        if batch_size > chosen.size:
            raise OptionError(
                f"batch_size is {batch_size}, but the plate '{chosen.name}' has {chosen.size} rows.",
                "Option: batch_size.",
                "Use at most as many rows as there are.",
            )
        model, part = target.model.handled, cut.on(np.arange(batch_size))
        own = part.model.handled
        whole = {name: model.data.get(name, arguments[name]) for name in own.data}
        rows = RowsModel(
            inner=dataclasses.replace(own, data=whole),
            bijection=own.bijection,
            cut=tuple(axis for name in sorted(whole) for axis in cut.axes[name]),
            inside=frozenset(_inside(own, part.structure, chosen)),
            axes=_local(target.structure, chosen),
            weight=chosen.size / batch_size,
        )
        found = Subsample(rows, part.structure, chosen.name, chosen.size, batch_size)
        _check(found, model, latent, chosen, float(np.sqrt(np.finfo(float_type(precision)).eps)))
    return found


def _local(structure: Structure, plate: Plate) -> tuple[tuple[str, int], ...]:
    """Latents of the plate and their axis."""
    axes = [(site.name, plate_axis(site, plate.name)) for site in structure.latents]
    return tuple((name, axis) for name, axis in axes if axis is not None)


def _inside(part: NumPyroModel, batch: Structure, plate: Plate) -> list[str]:
    """The terms that belong to rows; a sum over a latent outside the plate would couple them."""
    summed = {site.name for site in batch.summed}
    latents = {name: shape for name, shape in placeholders(batch).items() if name not in summed}
    names = jax.eval_shape(lambda model, z: model.log_joint(z), part, latents)
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
        part = on(found.model, own, rows)
        check_alone(plate, found.model.inside, whole, part, rows, plate.size, tolerance)
