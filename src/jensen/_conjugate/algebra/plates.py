"""A plate split into local and global parts, so that rows stream through and globals see summed statistics only.

Every term that runs over the plate is ⟨row part, G(globals)⟩, where G is an einsum of the global moments onto the
labels that it shares with the rows; terms of equal row parts share one G. With S = ∂(Σ rows) / ∂G the expected log
joint of the plate is ⟨S, G⟩, exactly and for any value of the globals while the local factors stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra.arrays import contract
from jensen._conjugate.algebra.blocks import Block
from jensen._conjugate.algebra.centring import in_single
from jensen._conjugate.algebra.energy import SiteTerm, Slot
from jensen._conjugate.algebra.model import ConjugateModel, Moments
from jensen._conjugate.algebra.packing import Pair, find_pair, packed
from jensen._conjugate.algebra.terms import (
    Atom,
    Axis,
    Factor,
    Gather,
    Known,
    Term,
    factor_axes,
    map_axes,
    renamed,
    taken,
)
from jensen._program.structure import plate_axis

Interface: TypeAlias = tuple[Array, ...]
"""G of each group."""
Atoms: TypeAlias = tuple[Block, tuple[Atom, ...]]


@dataclass(frozen=True, eq=False)
class Member:
    """The global part of one term: the place of its coefficient, its known arrays and its global atoms."""

    number: int
    known: tuple[Known, ...]
    atoms: tuple[Atoms, ...]

    @property
    def axes(self) -> set[Axis]:
        """Every label."""
        return {a for f in self.known for a in f.maps} | {
            axis for _, atoms in self.atoms for atom in atoms for axis in factor_axes(atom)
        }


@dataclass(eq=False)
class Group:
    """Terms over the plate with the same row part.

    Attributes:
        row_axis: the label of the plate.
        known: arrays with one entry per row; pair: one of them that stands twice, packed.
        local: the blocks inside the plate; looked_up: the global block that rows look up by index, if any.
        members: the global parts, on the labels of the first term.
        table: labels for the axes of the looked-up moments.
        inner: the labels of the row part.
    """

    row_axis: Axis
    known: tuple[Known, ...]
    local: tuple[Atoms, ...]
    looked_up: Atoms | None
    pair: Pair | None = None
    members: list[Member] = field(default_factory=list)
    table: tuple[Axis, ...] = ()
    inner: tuple[Axis, ...] = ()

    @property
    def shared(self) -> tuple[Axis, ...]:
        """The labels of G besides those of the table."""
        carried = {axis for member in self.members for axis in member.axes}
        labels = tuple(axis for axis in self.inner if axis in carried)
        if self.pair is None:
            return labels
        return (*(a for a in labels if a not in (self.pair.first, self.pair.second)), self.pair.packed)


class PlateSplit:
    """The split of a model along one plate.

    Attributes:
        size: rows of the plate; arrays: those of the energy, the rows in the precision asked for.
        local: the blocks inside the plate; row by row their factors depend on the globals and on each other.
        transient: local blocks that do not depend on each other, the largest ones: their factors are made anew in every
            sweep from the globals and the `carried` blocks, whose moments are kept.
        shared: the blocks outside the plate.
        centred: numbers of the arrays that were centred; `None` where the rows are as they came.
        groups: the terms over the plate; flat: terms of sites in the plate that are the same for every row;
            rest: all others.
    """

    arrays: tuple[Array, ...]
    centred: tuple[int, ...] | None
    model: ConjugateModel
    plate: str
    groups: tuple[Group, ...]
    flat: tuple[SiteTerm, ...]
    rest: tuple[SiteTerm, ...]
    size: int
    local: tuple[str, ...]
    shared: tuple[str, ...]
    transient: tuple[str, ...]
    carried: tuple[str, ...]

    def __init__(
        self,
        model: ConjugateModel,
        plate: str,
        groups: Sequence[Group],
        rest: Sequence[SiteTerm],
        arrays: tuple[Array, ...],
        centred: tuple[int, ...] | None = None,
    ):
        self.arrays, self.centred = arrays, centred
        self.model, self.plate = model, plate
        inside = {s.name for s in model.sites.values() if any(p.name == plate for p in s.plates)}
        self.groups = tuple(groups)
        self.flat = tuple(entry for entry in rest if entry.site in inside)
        self.rest = tuple(entry for entry in rest if entry.site not in inside)
        self.size = self.groups[0].row_axis.size
        self.local = tuple(n for n, b in model.blocks.items() if plate in b.plates)
        self.shared = tuple(n for n in model.blocks if n not in self.local)
        self.transient = self._independent()
        self.carried = tuple(n for n in self.local if n not in self.transient)

    def without_data(self) -> "PlateSplit":
        """The same split, for arrays that are handed over."""
        bare = self.model.with_arrays(())
        return PlateSplit(bare, self.plate, self.groups, (*self.flat, *self.rest), (), self.centred)

    def _independent(self) -> tuple[str, ...]:
        """Local blocks of which no two stand in one term, large ones first."""
        chosen: list[str] = []
        together = [{block.name for block, _ in group.local} for group in self.groups]
        for name in sorted(self.local, key=lambda name: -self.width(name)):
            if not any(name in names and names & set(chosen) for names in together):
                chosen.append(name)
        return tuple(n for n in self.local if n in chosen)

    def width(self, name: str) -> int:
        """Numbers per row in the moments of a local block."""
        return sum(int(np.prod(shape, dtype=int)) for shape in self.model.blocks[name].shapes.values()) // self.size

    def interface(self, moments: Moments, arrays: Sequence[Array]) -> Interface:
        """G at these global moments."""
        model = self.model.with_arrays(arrays)
        return tuple(self._whole(model, group, moments) for group in self.groups)

    def _whole(self, model: ConjugateModel, group: Group, moments: Moments) -> Array:
        pair, shared = group.pair, group.shared
        out = shared if pair is None else (*shared[:-1], pair.first, pair.second)
        sizes = tuple(axis.size for axis in out)
        total: Any = 0.0
        for member in group.members:
            operands = [model.energy._fetch(k.array) for k in member.known]
            labels: list[tuple[Axis, ...]] = [k.maps for k in member.known]
            for block, atoms in member.atoms:
                array, maps = block.find(moments[block.name], atoms)
                array, axes = taken(array, [model.energy._fetched_map(m) for m in maps])
                operands.append(array)
                labels.append(axes)
            wide = out
            if group.looked_up is not None:
                block, atoms = group.looked_up
                operands.append(block.find(moments[block.name], atoms)[0])
                labels.append(group.table)
                wide = (*group.table, *out)
            carried = {axis for axes in labels for axis in axes}
            part = contract(operands, labels, tuple(a for a in wide if a in carried)) if operands else jnp.ones(())
            part = part.reshape([axis.size if axis in carried else 1 for axis in wide])
            total = total + model.energy._fetch(model.energy.skeleton.coefficients)[member.number] * part
        if group.looked_up is not None:
            return jnp.broadcast_to(total, (*total.shape[: len(group.table)], *sizes))
        total = jnp.broadcast_to(total, sizes)
        return total if pair is None else packed(total, out, pair)

    def rest_energy(self, moments: Moments, arrays: Sequence[Array]) -> Scalar:
        """The expected log joint outside the rows, in nats."""
        return self.outer_energy(moments, arrays) + self.flat_energy(moments, arrays)

    def outer_energy(self, moments: Moments, arrays: Sequence[Array]) -> Scalar:
        """The expected log joint of the sites outside the plate, in nats."""
        model = self.model.with_arrays(arrays)
        return model.energy(model._lookup(moments), self.rest)

    def flat_energy(self, moments: Moments, arrays: Sequence[Array]) -> Scalar:
        """What the sites of the plate add alike for every row, over all rows, in nats."""
        model = self.model.with_arrays(arrays)
        return model.energy(model._lookup(moments), self.flat)

    def row_slots(self) -> dict[int, int]:
        """Array number -> its row axis, for the arrays that hold one entry per row."""
        slots: dict[int, int] = {}
        for group in self.groups:
            for known in [*group.known, *([group.pair.known] if group.pair else [])]:
                if isinstance(known.array, Slot):
                    slots[known.array.index] = known.maps.index(group.row_axis)
            for _, atoms in (item for item in (*group.local, group.looked_up) if item is not None):
                for position in (m for atom in atoms for m in atom.maps):
                    if (
                        isinstance(position, Gather)
                        and isinstance(position.index, Slot)
                        and group.row_axis in position.axes
                    ):
                        slots[position.index.index] = position.axes.index(group.row_axis)
        return slots


def row_position(model: ConjugateModel, block: Block, plate: str) -> int:
    """The axis of the block's arrays that runs over the plate."""
    site = model.sites[block.sites[0]]
    axis = plate_axis(site, plate)
    assert axis is not None  # a local block is inside
    return axis


def split(model: ConjugateModel, plate: str, single: bool = False, bare: bool = False) -> PlateSplit | None:
    """The split along a plate; `None` where rows depend on each other or cannot be told apart.

    With `single` its own `arrays` hold the rows centred and in single precision; otherwise they are the energy's.
    `bare` allows rows without latents of their own, which add to the statistics of the globals only.
    """
    local = {name for name, block in model.blocks.items() if plate in block.plates}
    if not (local or bare) or any(not _plain(model, model.blocks[name], plate) for name in local):
        return None
    groups: dict[Any, Group] = {}
    rest = []
    entries, arrays, centred = model.energy.terms, model.energy.arrays, None
    if single:
        entries, arrays, centred = in_single(model.energy, plate)
    for entry in entries:
        rows = [axis for axis in entry.term.axes if axis.plate == plate]
        owners = {model.layout.owner[a.site] for a in entry.term.atoms}
        if not rows:
            if owners & local:
                return None
            rest.append(entry)
            continue
        if len(rows) > 1 or not _in_slots(entry, rows[0]) or not _by_row(model, entry, rows[0], local):
            return None
        if not _grouped(model, groups, entry, rows[0], local):
            return None
    return PlateSplit(model, plate, list(groups.values()), rest, arrays, centred) if groups else None


def _in_slots(entry: SiteTerm, row_axis: Axis) -> bool:
    """Whether every array with one entry per row is an argument, so that rows can be chosen from it."""
    for factor in entry.term.factors:
        if isinstance(factor, Known) and row_axis in factor.maps and not isinstance(factor.array, Slot):
            return False
        for position in factor.maps:
            if isinstance(position, Gather) and row_axis in position.axes and not isinstance(position.index, Slot):
                return False
    return True


def _by_row(model: ConjugateModel, entry: SiteTerm, row_axis: Axis, local: set[str]) -> bool:
    """Whether every local latent of the term is taken at the row itself."""
    atoms = [a for a in entry.term.atoms if model.layout.owner[a.site] in local]
    return all(any(m is row_axis for m in a.maps) for a in atoms)


def _plain(model: ConjugateModel, block: Block, plate: str) -> bool:
    """Whether the row axis leads every array of the block, as the arrays of coupled axes may not."""
    axis = row_position(model, block, plate)
    size = model.sites[block.sites[0]].shape[axis]
    return all(len(shape) > axis and shape[axis] == size for shape in block.shapes.values()) and axis == 0


def _grouped(model: ConjugateModel, groups: dict[Any, Group], entry: SiteTerm, row_axis: Axis, local: set[str]) -> bool:
    """Add a term to the group of its row part; whether it is linear in one looked-up block at most."""
    by_row = [f for f in entry.term.factors if _touches(f, row_axis, model, local)]
    key, order = _row_key(by_row)
    if key in groups:
        names = dict(zip(order, groups[key].inner, strict=True))
        term = renamed(entry.term, names)
        group = groups[key]
    else:
        term = entry.term
        atoms = _owned(model, [f for f in by_row if isinstance(f, Atom)])
        inside = [item for item in atoms if item[0].name in local]
        outside = [item for item in atoms if item[0].name not in local]
        if len(outside) > 1:
            return False
        group = groups[key] = Group(
            row_axis,
            tuple(f for f in by_row if isinstance(f, Known)),
            tuple(inside),
            outside[0] if outside else None,
            inner=tuple(order),
        )
        if outside:
            shape = outside[0][0].find(*_sample(outside[0]))[0].shape
            group.table = tuple(Axis(n) for n in shape)
    others = [f for f in term.factors if not _touches(f, group.row_axis, model, local)]
    known = tuple(f for f in others if isinstance(f, Known))
    group.members.append(Member(entry.number, known, tuple(_owned(model, [f for f in others if isinstance(f, Atom)]))))
    if len(group.members) == 1 and group.looked_up is None:
        in_atoms = [axis for _, atoms in group.local for atom in atoms for axis in factor_axes(atom)]
        pair = find_pair(group.known, set(group.shared), in_atoms)
        if pair is not None:
            group.pair = pair
            group.known = tuple(f for f in group.known if f.array != pair.known.array)
    return True


def _touches(factor: Factor, row_axis: Axis, model: ConjugateModel, local: set[str]) -> bool:
    if isinstance(factor, Atom) and model.layout.owner[factor.site] in local:
        return True
    return row_axis in factor_axes(factor)


def _owned(model: ConjugateModel, atoms: Sequence[Atom]) -> list[Atoms]:
    found: dict[str, list[Atom]] = {}
    for atom in atoms:
        found.setdefault(model.layout.owner[atom.site], []).append(atom)
    return [(model.blocks[name], tuple(group)) for name, group in found.items()]


def _sample(item: Atoms) -> tuple[Any, Any]:
    block, atoms = item
    return {k: np.broadcast_to(0.0, shape) for k, shape in block.shapes.items()}, atoms


def _row_key(factors: Sequence[Factor]) -> tuple[Any, list[Axis]]:
    """(what is equal for equal row parts, their labels in the order in which they appear)."""
    numbers: dict[Axis, int] = {}

    def place(position: Any) -> Any:
        if isinstance(position, Gather):
            index = position.index if isinstance(position.index, Slot) else np.asarray(position.index).tobytes()
            return index, tuple(numbers.setdefault(a, len(numbers)) for a in position.axes)
        return numbers.setdefault(position, len(numbers))

    def rank(factor: Factor) -> Any:
        return (factor.site, factor.stat) if isinstance(factor, Atom) else ("", factor.array)

    parts = []
    for factor in sorted(factors, key=rank):
        places = tuple(place(m) for m in factor.maps)
        parts.append((rank(factor), places, tuple(a.size for m in factor.maps for a in map_axes(m))))
    return tuple(parts), list(numbers)


__all__ = ["Group", "Interface", "Member", "PlateSplit", "Term", "row_position", "split"]
