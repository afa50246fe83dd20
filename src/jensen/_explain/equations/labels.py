"""Which indices are of one kind (the rows of a plate, the values of a discrete latent), and their letters."""

from collections.abc import Iterable, Sequence
from itertools import chain, count
from typing import Any

from jensen._conjugate.algebra.derived import Derivation
from jensen._conjugate.algebra.terms import Atom, Axis, Gather, Map
from jensen._explain.equations.expression import Element, Expr, Index, Number, children

PLATES, VALUES, EVENTS = "ijntrsuvw", "klhg", "defc"


class Labels:
    """Union of labels by what they index. A label of a term is of the same kind as the axis of every site that it
    addresses, the plate that it runs over, and the values of a discrete latent that it selects.
    """

    def __init__(self, derivation: Derivation, entries: Iterable[Expr] = ()):
        self.derivation = derivation
        self._serial: dict[Axis, int] = {}
        self._parent: dict[Any, Any] = {}
        self._made: dict[Any, list[Axis]] = {}
        self._size: dict[Any, int] = {}
        for site in derivation.sites.values():
            batch = len(site.shape) - site.event_dim
            for plate in site.plates:
                axis = batch + plate.dim
                if 0 <= axis < len(site.shape) and site.shape[axis] == plate.size:
                    self._join(("axis", site.name, axis), ("plate", plate.name))
        for entry in derivation.terms:
            for axis in entry.term.axes:
                if axis.plate is not None:
                    self._join(axis, ("plate", axis.plate))
            for atom in entry.term.atoms:
                for node, position in zip(self._nodes(atom), atom.maps, strict=True):
                    if isinstance(position, Axis) and position.size > 1:
                        self._join(position, node)
                    elif isinstance(position, Gather) and len(position.axes) == 1:
                        self._join(position.axes[0], ("along", *node, position.axes[0].size))
        for entry in entries:
            self._join_elements(entry)

    def _join_elements(self, expr: Expr) -> None:
        """Labels that run over the same axis of one data array are of one kind."""
        if isinstance(expr, Element):
            for i, place in enumerate(expr.indices):
                if isinstance(place, Index) and not place.shift:
                    self._join(place.label, ("data", expr.name, i, place.label.size))
        for child in children(expr):
            self._join_elements(child)

    def _nodes(self, atom: Atom) -> list[Any]:
        if atom.stat.kind == "indicator":
            return [("values", atom.site), *(("axis", atom.site, i) for i in range(len(atom.maps) - 1))]
        return [("axis", atom.site, i) for i in range(len(atom.maps))]

    def _root(self, node: Any) -> Any:
        while node in self._parent:
            node = self._parent[node]
        return node

    def _join(self, left: Any, right: Any) -> None:
        left, right = self._root(left), self._root(right)
        if left != right:
            self._parent[left] = right

    def label(self, node: Any, ordinal: int, size: int) -> Axis:
        """The canonical label number `ordinal` of a kind."""
        made = self._made.setdefault((self._root(node), size), [])
        while len(made) <= ordinal:
            made.append(Axis(size))
            self._serial[made[-1]] = len(self._serial)
        return made[ordinal]

    def order(self, place: Expr) -> tuple[Any, ...]:
        """A sorting key of indices."""
        if isinstance(place, Index):
            return 0, self._serial.get(place.label, -1), place.shift, ""
        return (1, 0, place.value, "") if isinstance(place, Number) else (2, 0, 0, repr(place))

    def unused(self, axis: Axis, taken: set[Axis]) -> Axis:
        """A canonical label of the kind of `axis` that is not taken."""
        ordinal = 0
        while (found := self.label(axis, ordinal, axis.size)) in taken:
            ordinal += 1
        return found

    def kinds_of(self, atoms: Sequence[Atom], maps: Sequence[Map]) -> list[Any]:
        """The kind of each of `maps`, which are maps of these atoms."""
        nodes: dict[int, Any] = {}
        for atom in atoms:
            nodes |= {id(m): n for m, n in zip(atom.maps, self._nodes(atom), strict=True)}
        return [nodes.get(id(m), m) for m in maps]

    def distinct(self, kinds: Iterable[Any], shape: Sequence[int]) -> list[Axis]:
        """One canonical label for each axis, all different."""
        taken: set[Axis] = set()
        result = []
        for kind, size in zip(kinds, shape, strict=True):
            ordinal = 0
            while (label := self.label(kind, ordinal, size)) in taken:
                ordinal += 1
            taken.add(label)
            result.append(label)
        return result

    def site_places(self, site: str) -> tuple[Expr, ...]:
        """Indices for the axes of a site."""
        shape = self.derivation.sites[site].shape
        labels = self.distinct([("axis", site, i) for i in range(len(shape))], shape)
        return tuple(Number(0.0) if n == 1 else Index(label) for n, label in zip(shape, labels, strict=True))

    def letters(self, taken: set[str]) -> dict[Axis, str]:
        """Label -> its letter: plates i, j, n, ...; values of discrete latents k, l, ...; other axes d, e, ..."""
        plates: dict[Any, str] = {}
        values: set[Any] = set()
        for site in self.derivation.sites.values():
            if site.values is not None:
                values.add(self._root(("values", site.name)))
            for plate in site.plates:
                plates.setdefault(self._root(("plate", plate.name)), plate.name)
        used, found = set(taken), {}
        order = {root: i for i, root in enumerate(plates)}
        for (root, _), made in sorted(self._made.items(), key=lambda item: order.get(item[0][0], 99)):
            pool = VALUES if root in values else PLATES if root in plates else EVENTS
            for i, label in enumerate(made):
                own = plates.get(root, "")
                first = [own] if i == 0 and len(own) == 1 else []
                spare = (f"i{n}" for n in count(1))
                letter = next(c for c in chain(first, pool, EVENTS, PLATES, spare) if c not in used)
                used.add(letter)
                found[label] = letter
        return found

    def plate_of(self, label: Axis) -> str:
        """What a label runs over, in words: a plate, the values of a latent, or an axis of a site."""
        for (root, _), made in self._made.items():
            if label in made:
                for site in self.derivation.sites.values():
                    for plate in site.plates:
                        if self._root(("plate", plate.name)) == root:
                            return plate.name
                for site in self.derivation.sites.values():
                    if site.values is not None and self._root(("values", site.name)) == root:
                        return f"values of {site.name}"
        return ""


__all__ = ["Labels"]
