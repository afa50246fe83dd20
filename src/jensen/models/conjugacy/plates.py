"""A plate split into local and global parts, so that rows stream through and globals see summed statistics only.

Every term that runs over the plate is ⟨row part, G(globals)⟩, where G is an einsum of the global moments onto the
labels that it shares with the rows. With S = ∂(Σ rows) / ∂G the expected log joint of the plate is ⟨S, G⟩, exactly and
for any value of the globals while the local factors stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array, Scalar
from jensen.families.exponential import AbstractExponentialFactor, Natural
from jensen.models.conjugacy.arrays import contract
from jensen.models.conjugacy.blocks import Block
from jensen.models.conjugacy.energy import SiteTerm, Slot
from jensen.models.conjugacy.model import ConjugateModel, Moments
from jensen.models.conjugacy.packing import Pair, find_pair, packed
from jensen.models.conjugacy.terms import Atom, Axis, Gather, Known, Map, factor_axes, map_axes, taken

Interface = tuple[dict[str, Array], ...]
"""For each term of the plate: `shared`, the globals on the shared labels, and tables of globals that rows look up."""


@dataclass(frozen=True, eq=False)
class PlateTerm:
    """One term over the plate: its row factors, its global factors, and the labels that they share."""

    coefficient: float
    row_axis: Axis
    known: tuple[Known, ...]
    local: tuple[tuple[Block, tuple[Atom, ...]], ...]
    looked_up: tuple[tuple[Block, tuple[Atom, ...]], ...]
    global_known: tuple[Known, ...]
    global_atoms: tuple[tuple[Block, tuple[Atom, ...]], ...]
    shared: tuple[Axis, ...]
    pair: Pair | None = None


class PlateSplit:
    """The split of a model along one plate.

    Attributes:
        size: rows of the plate.
        local: the blocks inside the plate; row by row their factors depend on the globals and on each other.
        transient: local blocks that do not depend on each other, the largest ones: their factors are made anew in every
            sweep from the globals and the `carried` blocks, whose moments are kept.
        shared: the blocks outside the plate.
        terms: the terms over the plate; flat: terms of sites in the plate that are the same for every row;
            rest: all others.
    """

    def __init__(self, model: ConjugateModel, plate: str, terms: Sequence[PlateTerm], rest: Sequence[SiteTerm]):
        self.model, self.plate = model, plate
        inside = {s.name for s in model.sites.values() if any(p.name == plate for p in s.plates)}
        self.terms = tuple(terms)
        self.flat = tuple(entry for entry in rest if entry.site in inside)
        self.rest = tuple(entry for entry in rest if entry.site not in inside)
        self.size = self.terms[0].row_axis.size
        self.local = tuple(n for n, b in model.blocks.items() if plate in b.plates)
        self.shared = tuple(n for n in model.blocks if n not in self.local)
        self.transient = self._independent()
        self.carried = tuple(n for n in self.local if n not in self.transient)

    def _independent(self) -> tuple[str, ...]:
        """Local blocks of which no two stand in one term, large ones first."""
        chosen: list[str] = []
        together = [{block.name for block, _ in term.local} for term in self.terms]
        for name in sorted(self.local, key=lambda name: -self.width(name)):
            if not any(name in group and group & set(chosen) for group in together):
                chosen.append(name)
        return tuple(n for n in self.local if n in chosen)

    def width(self, name: str) -> int:
        """Numbers per row in the moments of a local block."""
        return sum(int(np.prod(shape, dtype=int)) for shape in self.model.blocks[name].shapes.values()) // self.size

    def interface(self, moments: Moments, arrays: Sequence[Array]) -> Interface:
        """G at these global moments."""
        model = self._with(arrays)
        result = []
        for term in self.terms:
            operands = [model.energy._fetch(k.array) for k in term.global_known]
            labels: list[tuple[Axis, ...]] = [k.maps for k in term.global_known]
            for block, atoms in term.global_atoms:
                array, axes = _found(model, block, atoms, moments)
                operands.append(array)
                labels.append(axes)
            carried = {axis for axes in labels for axis in axes}
            out = tuple(axis for axis in term.shared if axis in carried)
            whole = contract(operands, labels, out) if operands else jnp.ones(())
            if term.pair is not None:
                whole = packed(whole, out, term.pair)
            entry = {"shared": term.coefficient * whole}
            for i, (block, atoms) in enumerate(term.looked_up):
                entry[f"table{i}"] = block.find(moments[block.name], atoms)[0]
            result.append(entry)
        return tuple(result)

    def rest_energy(self, moments: Moments, arrays: Sequence[Array], share: float = 1.0) -> Scalar:
        """The expected log joint outside the rows, in nats; without what all rows have in common if `share` is 0."""
        model = self._with(arrays)
        outside = model.energy(model._lookup(moments), self.rest)
        return outside + share * self.flat_energy(moments, arrays) if share else outside

    def flat_energy(self, moments: Moments, arrays: Sequence[Array]) -> Scalar:
        """What the sites of the plate add alike for every row, over all rows, in nats."""
        model = self._with(arrays)
        return model.energy(model._lookup(moments), self.flat)

    def rows_energy(
        self,
        local: Moments,
        interface: Interface,
        arrays: Sequence[Array],
        start: Any,
        count: int,
        weights: Array | None = None,
    ) -> Scalar:
        """The expected log joint of `count` rows from `start` on, in nats; linear in each local block's moments.

        Every row counts once, or as often as `weights` (count,) say.
        """
        total = jnp.zeros(())
        for term, entry in zip(self.terms, interface, strict=True):
            operands, labels = [entry["shared"]], [self._shared_labels(term)]
            for known in term.known:
                operands.append(self._rows(known.array, known.maps, term.row_axis, arrays, start, count))
                labels.append(known.maps)
            if term.pair is not None:
                known, position = term.pair.known, term.pair.position
                rows = self._rows(known.array, known.maps, term.row_axis, arrays, start, count)
                rows = jnp.moveaxis(rows, position, -1)
                first, second = term.pair.indices()
                operands.append(rows[..., first] * rows[..., second])
                labels.append((*known.maps[:position], *known.maps[position + 1 :], term.pair.packed))
            for i, (block, atoms) in enumerate(term.looked_up):
                maps = block.find({k: jnp.zeros(s) for k, s in block.shapes.items()}, atoms)[1]
                array, axes = self._taken(entry[f"table{i}"], maps, term.row_axis, arrays, start, count)
                operands.append(array)
                labels.append(axes)
            for block, atoms in term.local:
                array, maps = block.find(local[block.name], atoms)
                array, axes = self._taken(array, maps, term.row_axis, arrays, start, count)
                operands.append(array)
                labels.append(axes)
            if weights is not None:
                operands.append(weights)
                labels.append((term.row_axis,))
            total = total + contract(operands, labels, ())
        return total

    def zero_local(self, count: int) -> Moments:
        """Moments of zero of the transient blocks for `count` rows: the energy is linear in them, so any point gives
        the message.
        """
        return {
            name: {key: jnp.zeros((count, *shape[1:])) for key, shape in self.model.blocks[name].shapes.items()}
            for name in self.transient
        }

    def updated_rows(
        self, interface: Interface, arrays: Sequence[Array], start: Any, count: int, carried: Moments
    ) -> dict[str, AbstractExponentialFactor]:
        """The factors of `count` rows after an update of the transient blocks and then of each carried one in turn."""

        def energy(own: Moments, rest: Moments) -> Scalar:
            return self.rows_energy({**rest, **own}, interface, arrays, start, count)

        messages: dict[str, Natural] = jax.grad(energy)(self.zero_local(count), carried)
        factors = {name: self.model.factor(name, message) for name, message in messages.items()}
        moments = {**carried, **{name: factor.mean_params() for name, factor in factors.items()}}
        for name in self.carried:
            message = jax.grad(energy)({name: moments[name]}, moments)[name]
            factors[name] = self.model.factor(name, message)
            moments[name] = factors[name].mean_params()
        return factors

    def row_slots(self) -> dict[int, int]:
        """Array number -> its row axis, for the arrays that hold one entry per row."""
        slots: dict[int, int] = {}
        for term in self.terms:
            for known in [*term.known, *([term.pair.known] if term.pair else [])]:
                if isinstance(known.array, Slot):
                    slots[known.array.index] = known.maps.index(term.row_axis)
            for _, atoms in [*term.local, *term.looked_up]:
                for position in (m for atom in atoms for m in atom.maps):
                    if (
                        isinstance(position, Gather)
                        and isinstance(position.index, Slot)
                        and term.row_axis in position.axes
                    ):
                        slots[position.index.index] = position.axes.index(term.row_axis)
        return slots

    def _with(self, arrays: Sequence[Array]) -> ConjugateModel:
        energy = type(self.model.energy)(tuple(arrays), self.model.energy.skeleton)
        return ConjugateModel(energy, self.model.layout)

    @staticmethod
    def _shared_labels(term: PlateTerm) -> tuple[Axis, ...]:
        carried = {axis for known in term.global_known for axis in known.maps}
        carried |= {axis for _, atoms in term.global_atoms for atom in atoms for axis in factor_axes(atom)}
        labels = tuple(axis for axis in term.shared if axis in carried)
        if term.pair is None:
            return labels
        return (*(a for a in labels if a not in (term.pair.first, term.pair.second)), term.pair.packed)

    def _rows(
        self, array: Any, axes: Sequence[Axis], row_axis: Axis, arrays: Sequence[Array], start: Any, count: int
    ) -> Array:
        whole = arrays[array.index] if isinstance(array, Slot) else jnp.asarray(array)
        if row_axis not in axes:
            return whole
        return jax.lax.dynamic_slice_in_dim(whole, start, count, list(axes).index(row_axis))

    def _taken(
        self, array: Array, maps: Sequence[Map], row_axis: Axis, arrays: Sequence[Array], start: Any, count: int
    ) -> tuple[Array, tuple[Axis, ...]]:
        """`taken` with index arrays cut to the rows; labels keep their identity, the row label at its cut length."""
        cut = Axis(count)
        names = {row_axis: cut}
        sliced: list[Map] = []
        for position in maps:
            if isinstance(position, Gather):
                index = self._rows(position.index, position.axes, row_axis, arrays, start, count)
                sliced.append(Gather(index, tuple(names.get(a, a) for a in position.axes)))
            else:
                sliced.append(names.get(position, position))
        result, axes = taken(array, sliced)
        return result, tuple(row_axis if axis is cut else axis for axis in axes)


def _found(
    model: ConjugateModel, block: Block, atoms: Sequence[Atom], moments: Moments
) -> tuple[Array, tuple[Axis, ...]]:
    array, maps = block.find(moments[block.name], atoms)
    return taken(array, [model.energy._fetched_map(m) for m in maps])


def _row_position(model: ConjugateModel, block: Block, plate: str) -> int:
    """The axis of the block's arrays that runs over the plate."""
    site = model.sites[block.sites[0]]
    dim = next(p.dim for p in site.plates if p.name == plate)
    return len(site.shape) - site.event_dim + dim


def split(model: ConjugateModel, plate: str) -> PlateSplit | None:
    """The split along a plate; `None` where rows depend on each other or cannot be told apart."""
    local = {name for name, block in model.blocks.items() if plate in block.plates}
    if not local or any(not _plain(model, model.blocks[name], plate) for name in local):
        return None
    terms, rest = [], []
    for entry in model.energy.terms:
        rows = [axis for axis in entry.term.axes if axis.plate == plate]
        owners = {model.layout.owner[a.site] for a in entry.term.atoms}
        if not rows:
            if owners & local:
                return None
            rest.append(entry)
            continue
        if len(rows) > 1 or not _in_slots(entry, rows[0]) or not _by_row(model, entry, rows[0], local):
            return None
        terms.append(_plate_term(model, entry, rows[0], local))
    return PlateSplit(model, plate, terms, rest) if terms else None


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
    axis = _row_position(model, block, plate)
    size = model.sites[block.sites[0]].shape[axis]
    return all(len(shape) > axis and shape[axis] == size for shape in block.shapes.values()) and axis == 0


def _plate_term(model: ConjugateModel, entry: SiteTerm, row_axis: Axis, local: set[str]) -> PlateTerm:
    term = entry.term
    groups: dict[str, list[Atom]] = {}
    for atom in term.atoms:
        groups.setdefault(model.layout.owner[atom.site], []).append(atom)
    known = tuple(f for f in term.factors if isinstance(f, Known) and row_axis in f.maps)
    global_known = tuple(f for f in term.factors if isinstance(f, Known) and row_axis not in f.maps)
    inside, looked_up, outside = [], [], []
    for name, atoms in groups.items():
        item = (model.blocks[name], tuple(atoms))
        by_row = any(row_axis in map_axes(m) for atom in atoms for m in atom.maps)
        (inside if name in local else looked_up if by_row else outside).append(item)
    row_labels = {axis for f in known for axis in f.maps}
    row_labels |= {axis for _, atoms in [*inside, *looked_up] for atom in atoms for axis in factor_axes(atom)}
    others = {axis for f in global_known for axis in f.maps}
    others |= {axis for _, atoms in outside for atom in atoms for axis in factor_axes(atom)}
    shared = tuple(axis for factor in term.factors for axis in factor_axes(factor) if axis in row_labels & others)
    inner = [axis for _, atoms in [*inside, *looked_up] for atom in atoms for axis in factor_axes(atom)]
    pair = find_pair(known, set(shared), inner)
    if pair is not None:
        known = tuple(f for f in known if f.array != pair.known.array)
    return PlateTerm(
        term.coefficient,
        row_axis,
        known,
        tuple(inside),
        tuple(looked_up),
        global_known,
        tuple(outside),
        tuple(dict.fromkeys(shared)),
        pair,
    )
