"""The rows of a plate, chunk by chunk: local factors made, summed into statistics and dropped.

Where a term is (features of the row) × G × (local moments), the features of all such terms stand in one matrix Φ with
one row each and one column for each row of data: the natural parameters of the local factors are then Θᵀ Φ and the
statistics Φ μᵀ, one matrix product each. Rows of data run along the last axis, along which machines are fast.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra.arrays import contract
from jensen._conjugate.algebra.blocks import Block
from jensen._conjugate.algebra.energy import Slot
from jensen._conjugate.algebra.model import Moments
from jensen._conjugate.algebra.plates import Group, Interface, PlateSplit
from jensen._conjugate.algebra.terms import Atom, Axis, Gather, Known, Map, taken
from jensen._families.exponential import AbstractExponentialFactor, Natural

CACHE = 512 * 1024
"""Bytes of features and local moments that a chunk may take: they should stay in the core's own cache."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """`count` rows from `start` on, of these arrays."""

    arrays: Sequence[Array]
    start: Any
    count: int

    def rows(self, array: Any, axes: Sequence[Axis], row_axis: Axis) -> Array:
        """A known array, cut to the rows where it has any."""
        whole = self.arrays[array.index] if isinstance(array, Slot) else jnp.asarray(array)
        if row_axis not in axes:
            return whole
        return jax.lax.dynamic_slice_in_dim(whole, self.start, self.count, list(axes).index(row_axis))

    def taken(self, array: Array, maps: Sequence[Map], row_axis: Axis) -> tuple[Array, tuple[Axis, ...]]:
        """`taken` with index arrays cut to the rows."""
        cut = Axis(self.count)
        sliced: list[Map] = []
        for position in maps:
            if isinstance(position, Gather):
                index = self.rows(position.index, position.axes, row_axis)
                sliced.append(Gather(index, tuple(cut if a is row_axis else a for a in position.axes)))
            else:
                sliced.append(cut if position is row_axis else position)
        result, axes = taken(array, sliced)
        return result, tuple(row_axis if axis is cut else axis for axis in axes)


@dataclass(frozen=True, eq=False)
class Part:
    """One group inside a packed matrix: its number, the labels of its features and those of the local moments."""

    group: int
    features: tuple[Axis, ...]
    values: tuple[Axis, ...]

    @property
    def width(self) -> int:
        """Rows of Φ."""
        return int(np.prod([axis.size for axis in self.features], dtype=int))


@dataclass(frozen=True, eq=False)
class Pack:
    """The groups that give one natural parameter of one local block."""

    block: Block
    key: str
    parts: tuple[Part, ...]
    shape: tuple[int, ...]

    @property
    def widths(self) -> list[int]:
        """Rows of Φ for each part."""
        return [part.width for part in self.parts]


class Rows:
    """How the rows of a split are computed: which groups are packed into matrices, which are left to autodiff."""

    packs: tuple[Pack, ...]
    last: frozenset[str]

    def __init__(self, parts: PlateSplit):
        self.parts = parts
        packs: dict[tuple[str, str], list[Part]] = {}
        self.loose: list[int] = []
        for number, group in enumerate(parts.groups):
            found = _packable(group, number)
            if found is None:
                self.loose.append(number)
            else:
                packs.setdefault(found[0], []).append(found[1])
        blocks = parts.model.blocks
        self.packs = tuple(
            Pack(blocks[name], key, tuple(group), tuple(axis.size for axis in group[0].values))
            for (name, key), group in packs.items()
        )
        touched = {block.name for i in self.loose for block, _ in parts.groups[i].local} | set(parts.carried)
        packed = {pack.block.name: {p.key for p in self.packs if p.block is pack.block} for pack in self.packs}
        self.last = frozenset(
            name
            for name, keys in packed.items()
            if name not in touched and keys == set(blocks[name].shapes) and blocks[name].rows_last is not None
        )
        """Blocks whose moments are kept with the rows on the last axis."""

    @property
    def size(self) -> int:
        """Numbers held for each row of a chunk, at least one."""
        packed = sum(sum(pack.widths) + 2 * int(np.prod(pack.shape)) for pack in self.packs)
        shapes = (s for name in self.parts.local for s in self.parts.model.blocks[name].shapes.values())
        return max(1, packed + sum(2 * int(np.prod(shape[1:])) for shape in shapes))

    def parameters(self, interface: Interface) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """(Θ of each pack, G of the loose groups); linear in the interface."""
        stacked = tuple(
            jnp.concatenate([self._stacked(part, interface[part.group]) for part in pack.parts]) for pack in self.packs
        )
        return stacked, tuple(interface[i] for i in self.loose)

    def _stacked(self, part: Part, whole: Array) -> Array:
        """G as (features, values)."""
        shared = self.parts.groups[part.group].shared
        wide = (*part.features, *part.values)
        whole = jnp.transpose(whole, [shared.index(a) for a in wide if a in shared])
        whole = whole.reshape([a.size if a in shared else 1 for a in wide])
        return jnp.broadcast_to(whole, [a.size for a in wide]).reshape((part.width, -1))

    def features(self, pack: Pack, chunk: Chunk) -> Array:
        """Φ, (features, rows)."""
        return jnp.concatenate([self._features(part, chunk) for part in pack.parts])

    def _features(self, part: Part, chunk: Chunk) -> Array:
        group = self.parts.groups[part.group]
        operands, labels = _known(group, chunk)
        if not operands:
            return jnp.ones((1, chunk.count), self.kind(chunk.arrays))
        out = (*part.features, group.row_axis)
        if all(set(axes) <= set(out) for axes in labels):
            wide = [aligned(array, axes, out) for array, axes in zip(operands, labels, strict=True)]
            product = wide[0]
            for array in wide[1:]:
                product = product * array
        else:
            product = contract(operands, labels, out)
        return jnp.broadcast_to(product, (*(a.size for a in part.features), chunk.count)).reshape((part.width, -1))

    def kind(self, arrays: Sequence[Array]) -> Any:
        """The floating type of the rows."""
        kinds = [arrays[i].dtype for i in self.parts.row_slots() if jnp.issubdtype(arrays[i].dtype, jnp.floating)]
        return jnp.dtype(jnp.result_type(*kinds) if kinds else jnp.result_type(float))

    def loose_energy(
        self,
        local: Moments,
        loose: tuple[Array, ...],
        chunk: Chunk,
        weights: Array | None = None,
        only: Sequence[int] | None = None,
    ) -> Scalar:
        """The expected log joint of the loose groups over the rows, in nats; linear in the local moments and in G.

        Every row counts once, or as often as `weights` (count,) say; `only` picks some of the loose groups.
        """
        total = jnp.zeros((), self.kind(chunk.arrays))
        chosen = range(len(self.loose)) if only is None else only
        for number, whole in ((self.loose[i], loose[i]) for i in chosen):
            group = self.parts.groups[number]
            operands, labels = _known(group, chunk)
            if group.looked_up is not None:
                maps = maps_of(group.looked_up)
                whole, axes = chunk.taken(whole, (*maps, *group.shared), group.row_axis)
            else:
                axes = group.shared
            operands.append(whole)
            labels.append(axes)
            for block, atoms in group.local:
                array, maps = block.find(local[block.name], atoms)
                array, axes = chunk.taken(array, maps, group.row_axis)
                operands.append(array)
                labels.append(axes)
            if weights is not None:
                operands.append(weights)
                labels.append((group.row_axis,))
            total = total + contract(operands, labels, ())
        return total

    def all_features(self, chunk: Chunk) -> list[Array]:
        """Φ of each pack."""
        return [self.features(pack, chunk) for pack in self.packs]

    def factors(
        self, parameters: Any, features: list[Array], chunk: Chunk, carried: Moments
    ) -> dict[str, AbstractExponentialFactor]:
        """The factors after an update of the transient blocks and then of each carried one in turn."""
        model, kind = self.parts.model, self.kind(chunk.arrays)
        zeros = {
            name: {k: jnp.zeros((chunk.count, *s[1:]), kind) for k, s in model.blocks[name].shapes.items()}
            for name in self.parts.transient
        }
        factors = self.optimal(zeros, carried, parameters, features, chunk)
        moments = {**carried, **{name: factor.mean_params() for name, factor in factors.items()}}
        for name in self.parts.carried:
            own = self.optimal({name: moments[name]}, moments, parameters, features, chunk)
            factors |= own
            moments[name] = own[name].mean_params()
        return factors

    def optimal(
        self, own: Moments, rest: Moments, parameters: Any, features: list[Array], chunk: Chunk
    ) -> dict[str, AbstractExponentialFactor]:
        """The optimal factors of some blocks that do not depend on each other; the energy is linear in `own`."""

        def energy(own: Moments) -> Scalar:
            return self.loose_energy({**rest, **own}, parameters[1], chunk)

        messages = jax.grad(energy)(own) if self.loose else jax.tree.map(jnp.zeros_like, own)
        naturals: dict[str, Natural] = {n: {} if n in self.last else dict(messages[n]) for n in own}
        for name, packed in self.packed(own, parameters, features, chunk).items():
            for key, logits in packed.items():
                naturals[name][key] = logits if name in self.last else naturals[name][key] + logits
        return {name: self._factor(name, natural) for name, natural in naturals.items()}

    def packed(
        self, names: Iterable[str], parameters: Any, features: list[Array], chunk: Chunk
    ) -> dict[str, dict[str, Array]]:
        """What the packed groups add to the natural parameters of these blocks."""
        found: dict[str, dict[str, Array]] = {name: {} for name in names}
        for pack, theta, phi in zip(self.packs, parameters[0], features, strict=True):
            name = pack.block.name
            if name in found:
                logits = (theta.T @ phi).reshape((*pack.shape, chunk.count))
                found[name][pack.key] = logits if name in self.last else jnp.moveaxis(logits, -1, 0)
        return found

    def _factor(self, name: str, natural: Natural) -> AbstractExponentialFactor:
        block = self.parts.model.blocks[name]
        return block.rows_last(natural) if name in self.last and block.rows_last else block.factor(natural)

    def at(self, values: dict[str, Array], factors: dict[str, AbstractExponentialFactor], chunk: Chunk) -> Moments:
        """The moments of blocks concentrated at given values (of all rows), those of the factors elsewhere."""
        moments: Moments = {}
        for name, factor in factors.items():
            sites = self.parts.model.blocks[name].sites
            if sites[0] in values:
                cut = [jax.lax.dynamic_slice_in_dim(values[s], chunk.start, chunk.count) for s in sites]
                cut = [jnp.moveaxis(v, 0, -1) if name in self.last else v for v in cut]
                moments[name] = factor.statistics(*cut)
            else:
                moments[name] = factor.mean_params()
        return moments

    def turned(self, local: Moments, rows_first: bool) -> Moments:
        """Moments or natural parameters from rows-first arrays to how they are kept here, or back to `rows_first`."""
        ends = (-1, 0) if rows_first else (0, -1)
        return {
            name: {k: jnp.moveaxis(a, *ends) if name in self.last else a for k, a in local[name].items()}
            for name in self.parts.local
        }

    def by_row(self, name: str, sizes: Array) -> Array:
        """A(η) of a block's factors, summed over everything but the rows."""
        axis = sizes.ndim - 1 if name in self.last else 0
        return jnp.sum(sizes, tuple(i for i in range(sizes.ndim) if i != axis))

    def packed_statistics(
        self, moments: Moments, features: list[Array], chunk: Chunk, weights: Array | None
    ) -> tuple[Array | None, ...]:
        """Φ μᵀ of each pack; `None` where the moments of its block are not given."""
        if weights is not None:
            features = [phi * weights for phi in features]
        return tuple(
            None
            if pack.block.name not in moments
            else phi @ moments[pack.block.name][pack.key].reshape((-1, chunk.count)).T
            if pack.block.name in self.last
            else phi @ moments[pack.block.name][pack.key].reshape((chunk.count, -1))
            for pack, phi in zip(self.packs, features, strict=True)
        )

    def statistics(
        self, moments: Moments, features: list[Array], parameters: Any, chunk: Chunk, weights: Array | None = None
    ) -> Any:
        """∂ (Σ rows) / ∂ parameters, of the structure of `parameters`; rows count as `weights` (count,) say."""
        packed = self.packed_statistics(moments, features, chunk, weights)
        if not self.loose:
            return packed, ()
        return packed, jax.grad(self.loose_energy, argnums=1)(moments, parameters[1], chunk, weights)


def _packable(group: Group, number: int) -> tuple[tuple[str, str], Part] | None:
    """((block, statistic), part) where the group is features × G × one array of local moments."""
    if len(group.local) != 1 or group.looked_up is not None:
        return None
    block, atoms = group.local[0]
    marks = {key: np.broadcast_to(0.0, shape) for key, shape in block.shapes.items()}
    array, maps = block.find(marks, atoms)  # type: ignore[arg-type]
    key = next((k for k, mark in marks.items() if array is mark), None)
    if key is None or any(isinstance(m, Gather) for m in maps) or maps[0] is not group.row_axis:
        return None
    values: tuple[Axis, ...] = tuple(maps[1:])  # type: ignore[assignment]
    if len(set(maps)) != len(maps):
        return None
    carried = {axis for known in group.known for axis in known.maps} - {group.row_axis}
    if group.pair is not None:
        carried |= {a for i, a in enumerate(group.pair.known.maps) if i != group.pair.position} - {group.row_axis}
        carried.add(group.pair.packed)
    if carried & set(values) or not set(group.shared) <= carried | set(values):
        return None
    return (block.name, key), Part(number, tuple(a for a in group.shared if a in carried), values)


def _known(group: Group, chunk: Chunk) -> tuple[list[Array], list[tuple[Axis, ...]]]:
    operands = [chunk.rows(known.array, known.maps, group.row_axis) for known in group.known]
    labels: list[tuple[Axis, ...]] = [known.maps for known in group.known]
    if group.pair is not None:
        known, position = group.pair.known, group.pair.position
        rows = jnp.moveaxis(chunk.rows(known.array, known.maps, group.row_axis), position, 0)
        others = (*known.maps[:position], *known.maps[position + 1 :])
        rows = jnp.moveaxis(rows, 1 + others.index(group.row_axis), -1)
        first, second = group.pair.indices()
        operands.append(rows[first] * rows[second])
        labels.append((group.pair.packed, *(a for a in others if a is not group.row_axis), group.row_axis))
    return operands, labels


def aligned(array: Array, axes: Sequence[Axis], out: Sequence[Axis]) -> Array:
    """The array on the axes `out`, with length 1 where it lacks one."""
    held = [axis for axis in out if axis in axes]
    array = jnp.transpose(array, [list(axes).index(axis) for axis in held])
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if axis in held else 1 for axis in out])


def maps_of(item: tuple[Block, tuple[Atom, ...]]) -> tuple[Map, ...]:
    """One map for each axis of the array in which these atoms are found."""
    block, atoms = item
    return block.find({k: np.broadcast_to(0.0, s) for k, s in block.shapes.items()}, atoms)[1]  # type: ignore[arg-type]


__all__ = ["Chunk", "Known", "Pack", "Rows", "aligned", "maps_of"]
