"""Each block's update as equations: the derivative of the log joint's terms, site by site, in the usual parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jensen._conjugate.algebra.blocks import Block
from jensen._conjugate.algebra.derived import Derivation
from jensen._conjugate.algebra.energy import Slot
from jensen._conjugate.algebra.terms import Atom, Axis, Gather, Known, Map
from jensen._explain.equations.expression import (
    Apply,
    Element,
    Equal,
    Expr,
    Index,
    Moment,
    Number,
    Total,
    evaluate,
    mapped,
    product,
    renamed,
    scaled,
    sum_of,
    total,
)
from jensen._explain.equations.expression import aligned as spread
from jensen._explain.equations.families import Parameter, parameters_of
from jensen._explain.equations.labels import Labels
from jensen._explain.equations.provenance import Provenance
from jensen._explain.equations.tidy import tidy


@dataclass(frozen=True)
class Equation:
    """One parameter of a factor: `parameter = front · Σ terms`.

    Attributes:
        parameter: which one, of which family. indices: one per axis of the parameter.
        terms: (site, expression), in the order of the program; `front` names an earlier parameter that multiplies them.
    """

    parameter: Parameter
    indices: tuple[Expr, ...]
    terms: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True)
class Update:
    """The optimal factor of one block."""

    block: Block
    family: str
    indices: dict[str, tuple[Expr, ...]]
    equations: tuple[Equation, ...]


@dataclass(eq=False)
class Writer:
    """Turns a derivation into equations; `labels` keeps the indices of all of them consistent."""

    derivation: Derivation
    provenance: Provenance = field(init=False)
    labels: Labels = field(init=False)
    owner: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.provenance = Provenance(*self.derivation.computation, taken=self.derivation.sites)
        known = [f for t in self.derivation.terms for f in t.term.factors if isinstance(f, Known)]
        self.labels = Labels(self.derivation, map(self._known, known))
        self.owner = {site: name for name, block in self.derivation.blocks.items() for site in block.sites}

    def updates(self) -> dict[str, Update]:
        """Every recognised block's update."""
        return {name: self.update(block) for name, block in self.derivation.blocks.items()}

    def update(self, block: Block) -> Update:
        """The equations of one block."""
        factor = block.factor({name: np.zeros(shape) for name, shape in block.shapes.items()})  # type: ignore[arg-type]
        family, parameters = parameters_of(factor)
        equations = tuple(self._equation(block, parameter) for parameter in parameters)
        return Update(block, family, {s: self.labels.site_places(s) for s in block.sites}, equations)

    def _equation(self, block: Block, parameter: Parameter) -> Equation:
        shape = block.shapes[parameter.stat]
        own = self._own_labels(block, parameter.stat)
        places = tuple(Number(0.0) if n == 1 else Index(label) for n, label in zip(shape, own, strict=True))
        by_site: dict[str, list[Expr]] = {}
        for entry in self.derivation.terms:
            if any(self.owner.get(a.site) == block.name for a in entry.term.atoms):
                found = self._contribution(entry.term, block, parameter.stat, own)
                if found is not None:
                    by_site.setdefault(entry.site, []).append(found)
        if parameter.symmetric:
            swap = {own[i]: Index(own[j]) for i, j in parameter.symmetric}
            swap |= {own[j]: Index(own[i]) for i, j in parameter.symmetric}
            by_site = {s: [*terms, *(renamed(t, swap) for t in terms)] for s, terms in by_site.items()}
        if parameter.shift:
            first = next((s for s in block.sites if s in by_site), block.sites[0])
            extra = Number(parameter.shift / parameter.scale)
            by_site = {first: [*by_site.get(first, []), extra], **{s: t for s, t in by_site.items() if s != first}}
        ordered = [s for s in block.sites if s in by_site] + [s for s in by_site if s not in block.sites]
        terms = tuple(
            (site, tidy(scaled(self._canonical(t), parameter.scale) for t in by_site[site])) for site in ordered
        )
        return Equation(parameter, places, tuple((s, t) for s, t in terms if t != Number(0.0)))

    def _own_labels(self, block: Block, stat: str) -> list[Axis]:
        """One label for each axis of the statistic, found from the first term that holds it."""
        for entry in self.derivation.terms:
            atoms = [a for a in entry.term.atoms if self.owner.get(a.site) == block.name]
            if atoms:
                name, maps = block.find(_Names(), atoms)  # type: ignore[arg-type]
                if name == stat:
                    kinds = self.labels.kinds_of(atoms, maps)
                    return self.labels.distinct(kinds, block.shapes[stat])
        site = self.derivation.sites[block.sites[0]]
        kinds = [("axis", site.name, i) for i in range(len(block.shapes[stat]))]
        return self.labels.distinct(kinds, block.shapes[stat])

    def _contribution(self, term: Any, block: Block, stat: str, own: Sequence[Axis]) -> Expr | None:
        """The derivative of one term in the block's mean parameter; `None` where the term holds another statistic."""
        mine = [a for a in term.atoms if self.owner.get(a.site) == block.name]
        name, maps = block.find(_Names(), mine)  # type: ignore[arg-type]
        if name != stat:
            return None
        places: dict[Any, Expr] = {}
        deltas: list[tuple[Map, Axis]] = []
        for position, label in zip(maps, own, strict=True):
            if label.size == 1:
                continue
            if isinstance(position, Axis) and position not in places:
                places[position] = Index(label)
            else:
                deltas.append((position, label))
        taken = set(own)
        rest = [axis for axis in _ordered_axes(term) if axis not in places]
        for axis in rest:
            new = self.labels.unused(axis, taken)
            taken.add(new)
            places[axis] = Index(new)
        factors: list[Expr] = [self._known(f) for f in term.factors if isinstance(f, Known)]
        groups: dict[str, list[Atom]] = {}
        for atom in term.atoms:
            if self.owner.get(atom.site) != block.name:
                groups.setdefault(self.owner.get(atom.site) or atom.site, []).append(atom)
        factors += [self.moment(owner, atoms) for owner, atoms in groups.items()]
        factors += [Equal(self._place(position), Index(label)) for position, label in deltas]
        factors = [self._settled(f, taken) for f in factors]
        body = product([renamed(f, places | _own_identity(own)) for f in factors], term.coefficient)
        return total((places[axis].label for axis in rest), body)  # type: ignore[union-attr]

    def _settled(self, expr: Expr, taken: set[Axis]) -> Expr:
        """The expression with the labels of its own sums replaced by canonical ones that are not taken."""

        def change(node: Expr) -> Expr | None:
            if not isinstance(node, Total):
                return None
            names: dict[Any, Expr] = {}
            for label in sorted(node.over, key=lambda x: x.size):
                new = self.labels.unused(label, taken)
                taken.add(new)
                names[label] = Index(new)
            return total((i.label for i in names.values()), self._settled(renamed(node.body, names), taken))  # type: ignore[union-attr]

        return mapped(expr, change)

    def _canonical(self, expr: Expr) -> Expr:
        """The expression with the indices of symmetric arrays in one order, so that like terms are equal."""
        key = self.labels.order

        def change(node: Expr) -> Expr | None:
            if isinstance(node, Equal):
                return Equal(*sorted((node.left, node.right), key=key))
            if isinstance(node, Element) and len(node.indices) == 2 and _symmetric(node.array):
                return Element(node.name, tuple(sorted(node.indices, key=key)), node.array)
            if not isinstance(node, Moment):
                return None
            if len(node.atoms) == 2 and node.atoms[0][:3] == node.atoms[1][:3] and node.stat == "zz":
                first, second = node.atoms
                if list(map(key, first[3])) <= list(map(key, second[3])):
                    return None
                event = len(node.indices) - len(first[3])
                batch = node.indices[: len(node.indices) - 2 * event]
                swapped = (*batch, *node.indices[-event:], *node.indices[-2 * event : -event])
                return Moment(node.block, node.stat, swapped, (second, first))
            if node.stat == "matrix":
                site, kind, p, places = node.atoms[0]
                ends = tuple(sorted(places[-2:], key=key))
                return Moment(
                    node.block, node.stat, (*node.indices[:-2], *ends), ((site, kind, p, (*places[:-2], *ends)),)
                )
            return None

        return mapped(expr, change)

    def _known(self, factor: Known) -> Expr:
        at = tuple(Index(axis) for axis in factor.maps)
        if isinstance(factor.array, Slot):
            return self.provenance.entry(self.provenance.outputs[factor.array.index], at)
        return self.provenance.constant(np.asarray(factor.array), at)

    def _place(self, position: Map) -> Expr:
        if not isinstance(position, Gather):
            return Index(position)
        if position.offset is not None and len(position.axes) == 1:
            return Index(position.axes[0], position.offset)
        return _unclamped(self._known(Known(position.index, position.axes)))

    def moment(self, owner: str, atoms: Sequence[Atom]) -> Expr:
        """E_q of the product of these atoms of one block."""
        described = tuple((a.site, a.stat.kind, a.stat.power, tuple(map(self._place, a.maps))) for a in atoms)
        block = self.derivation.blocks.get(owner)
        if block is None:
            return Moment(owner, "", described[0][3], described)
        name, maps = block.find(_Names(), atoms)  # type: ignore[arg-type]
        return Moment(owner, str(name), tuple(map(self._place, maps)), described)


def _unclamped(place: Expr) -> Expr:
    """An index without the bounds that JAX puts around it, which supports and plates guarantee already."""
    while isinstance(place, Apply) and place.name in ("max", "min") and any(isinstance(a, Number) for a in place.args):
        place = next(a for a in place.args if not isinstance(a, Number))
    return place


def _symmetric(array: Any) -> bool:
    return (
        isinstance(array, np.ndarray)
        and array.ndim == 2
        and array.shape[0] == array.shape[1]
        and np.array_equal(array, array.T)
    )


class _Names(dict):
    """Moments whose entries are their names: asked for a statistic, it answers which."""

    def __missing__(self, key: str) -> str:
        return key


def _own_identity(own: Sequence[Axis]) -> dict[Any, Expr]:
    return {label: Index(label) for label in own}


def _ordered_axes(term: Any) -> list[Axis]:
    found: dict[Axis, None] = {}
    for factor in term.factors:
        for position in factor.maps:
            for axis in position.axes if isinstance(position, Gather) else (position,):
                found[axis] = None
    return list(found)


def values(update: Update, moments: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parameter name -> what its printed equation gives at these moments (block -> statistic -> array)."""
    done: dict[str, np.ndarray] = {}
    for equation in update.equations:
        shape = update.block.shapes[equation.parameter.stat]
        axes = [i.label for i in equation.indices if isinstance(i, Index)]
        value = evaluate(sum_of(t for _, t in equation.terms), lambda e: _array(e, moments))
        array = spread(value, axes).reshape(shape)
        if equation.parameter.front:
            array = array / done[equation.parameter.front]
        done[equation.parameter.name] = array
    return done


def _array(node: Any, moments: Mapping[str, Any]) -> Any:
    if isinstance(node, Moment):
        return moments[node.block][node.stat]
    return node.array() if callable(node.array) else node.array
