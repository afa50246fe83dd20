"""Einsum monomials: the normal form in which every latent expression is kept.

A term is `coefficient · Π factors`, its factors carrying axis labels. Labels listed in `out` are the axes of the value
that the term is part of; every other label is summed over. An axis of the value along which a term is constant is
`None` in `out`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jensen._conjugate.algebra.arrays import contract, is_concrete, namespace, same_array

LARGE = 4096
"""Entries of an array whose square takes memory of its own."""
PRODUCTS: ContextVar[dict[Any, tuple[Any, ...]] | None] = ContextVar("PRODUCTS", default=None)
"""Products of known arrays found so far in the analysis under way."""
EXPLICIT: ContextVar[bool] = ContextVar("EXPLICIT", default=False)
"""Whether the analysis is for reading: Σ_n c over a plate stays a sum instead of N c, and nothing is compiled."""


@dataclass(eq=False)
class Axis:
    """A label with its length, compared by identity; `plate` names the plate that it runs over, once known."""

    size: int
    plate: str | None = None


@dataclass(frozen=True, eq=False)
class Gather:
    """Position along one axis of an atom: `index[axes]`. Without axes it is a fixed position.

    `offset` is set where the position is known to be the label of the only axis plus that number.
    """

    index: Any
    axes: tuple[Axis, ...] = ()
    offset: int | None = None


def gathered(index: Any, axes: tuple[Axis, ...]) -> Gather:
    """The map with its offset, where the positions are known and follow each other."""
    follows = len(axes) == 1 and is_concrete(index) and np.array_equal(index, index[0] + np.arange(len(index)))
    return Gather(index, axes, int(index[0]) if follows else None)


Map: TypeAlias = Axis | Gather
"""How one axis of an operand is addressed."""


class Stat(NamedTuple):
    """A statistic of a latent: `power` p (z**p, elementwise), `log`, `log1m` (log(1 - z)), `logdet`, `inverse`
    (matrix inverse), `indicator` (1 where the discrete latent takes the value on the first axis), `entropy` (of the
    discrete latent's factor: zero at a point), or another of `jensen._conjugate.algebra.statistics.STATISTICS`.
    """

    kind: str
    power: float = 0.0


@dataclass(frozen=True, eq=False)
class Known:
    """A factor that holds no latent: an array with one distinct label per axis."""

    array: Any
    maps: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Atom:
    """A statistic of one latent site, with one map per axis of the site's value."""

    site: str
    stat: Stat
    maps: tuple[Map, ...]


Factor: TypeAlias = Known | Atom


@dataclass(frozen=True, eq=False)
class Term:
    """`coefficient · Π factors`, summed over the labels that are not in `out`."""

    coefficient: float
    factors: tuple[Factor, ...]
    out: tuple[Axis | None, ...]

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The factors that hold latents."""
        return tuple(f for f in self.factors if isinstance(f, Atom))

    @property
    def axes(self) -> set[Axis]:
        """Every label of every factor."""
        return {axis for factor in self.factors for axis in factor_axes(factor)}

    @property
    def inner(self) -> set[Axis]:
        """The labels that are summed over."""
        return self.axes - set(self.out)


def map_axes(position: Map) -> tuple[Axis, ...]:
    """The labels that a map uses."""
    return position.axes if isinstance(position, Gather) else (position,)


def factor_axes(factor: Factor) -> tuple[Axis, ...]:
    """The distinct labels of a factor, in order."""
    return tuple(dict.fromkeys(axis for position in factor.maps for axis in map_axes(position)))


def same_map(left: Map, right: Map) -> bool:
    """Whether two maps always address the same position."""
    if isinstance(left, Gather) and isinstance(right, Gather):
        if left.offset is not None and right.offset is not None:
            return left.axes == right.axes and left.offset == right.offset
        return left.axes == right.axes and same_array(left.index, right.index)
    return left is right


def same_maps(left: Sequence[Map], right: Sequence[Map]) -> bool:
    """`same_map` along every axis."""
    return len(left) == len(right) and all(map(same_map, left, right))


def normalised(coefficient: float, factors: Iterable[Factor], out: Sequence[Axis | None], inner: set[Axis]) -> Term:
    """A term with equal atoms merged; a label that no factor carries any more becomes `None` or a count."""
    merged = _merge_factors(factors)
    carried = {axis for factor in merged for axis in factor_axes(factor)}
    lost = float(np.prod([axis.size for axis in inner - carried])) if inner - carried else 1.0
    kept: list[Factor] = []
    for factor in merged:
        if isinstance(factor, Known) and not factor.maps and is_concrete(factor.array):
            coefficient *= float(factor.array)
        elif isinstance(factor, Known) and is_concrete(factor.array) and not np.any(factor.array):
            return Term(0.0, (), (None,) * len(out))
        else:
            kept.append(factor)
    return Term(coefficient * lost, tuple(kept), tuple(axis if axis in carried else None for axis in out))


def _merge_factors(factors: Iterable[Factor]) -> list[Factor]:
    atoms: list[Atom] = []
    known: list[Known] = []
    for factor in factors:
        if isinstance(factor, Known):
            _merge_known(known, factor)
            continue
        for i, other in enumerate(atoms):
            powers = factor.stat.kind == other.stat.kind == "power"
            if powers and factor.site == other.site and same_maps(factor.maps, other.maps):
                power = Stat("power", factor.stat.power + other.stat.power)
                atoms[i] = Atom(other.site, power, other.maps)
                break
        else:
            atoms.append(factor)
    return [*known, *(a for a in atoms if not (a.stat.kind == "power" and a.stat.power == 0.0))]


def _merge_known(known: list[Known], new: Known) -> None:
    """Multiply arrays whose labels are nested, which costs no memory; others stay apart until they are contracted.

    A large array stays apart from its own square and from what varies along some of its axes: contracted together, as
    X'y is, their product is never formed.
    """
    for i, other in enumerate(known):
        if other.array is new.array and other.maps == new.maps and np.size(new.array) > LARGE and new.maps:
            continue
        large, small = (other, new) if len(other.maps) >= len(new.maps) else (new, other)
        if np.size(large.array) > LARGE and len(large.maps) > len(small.maps) > 0:
            continue
        if set(small.maps) <= set(large.maps):
            known[i] = Known(_product(large, small), large.maps)
            return
    known.append(new)


def _product(large: Known, small: Known) -> Any:
    """The product array; within one analysis the same two arrays give the same object, so that like terms merge."""
    memo = PRODUCTS.get()
    key = (id(large.array), id(small.array), tuple(large.maps.index(axis) for axis in small.maps))
    if memo is not None and key in memo:
        return memo[key][0]
    array = contract((large.array, small.array), (large.maps, small.maps), large.maps)
    if memo is not None:
        memo[key] = (array, large.array, small.array)  # the operands are kept alive: their ids are the key
    return array


def renamed(term: Term, names: Mapping[Axis, Axis]) -> Term:
    """The term with labels replaced."""
    return Term(
        term.coefficient,
        tuple(_renamed_factor(f, names) for f in term.factors),
        tuple(names.get(a, a) if a is not None else None for a in term.out),
    )


def _renamed_factor(factor: Factor, names: Mapping[Axis, Axis]) -> Factor:
    maps = tuple(_renamed_map(m, names) for m in factor.maps)
    return Known(factor.array, maps) if isinstance(factor, Known) else Atom(factor.site, factor.stat, maps)  # type: ignore[arg-type]


def _renamed_map(position: Map, names: Mapping[Axis, Axis]) -> Map:
    if isinstance(position, Gather):
        return Gather(position.index, tuple(names.get(a, a) for a in position.axes), position.offset)
    return names.get(position, position)


def fresh(term: Term) -> Term:
    """The term with new labels throughout, so that it can stand beside another without sharing any."""
    return renamed(term, {axis: Axis(axis.size, axis.plate) for axis in term.axes})


def multiply(left: Term, right: Term) -> Term:
    """The product of two terms of values of equal rank, aligned axis by axis."""
    right = fresh(right)
    aligned = {r: a for a, r in zip(left.out, right.out, strict=True) if a is not None and r is not None}
    right = renamed(right, aligned)
    out = [a if a is not None else r for a, r in zip(left.out, right.out, strict=True)]
    inner = left.inner | right.inner
    return normalised(left.coefficient * right.coefficient, left.factors + right.factors, out, inner)


def substituted(term: Term, positions: Mapping[Axis, Map], out: Sequence[Axis | None]) -> Term:
    """The term with labels replaced by maps, all at once; `out` lists the axes of the new value."""
    factors: list[Factor] = []
    for factor in term.factors:
        if isinstance(factor, Atom):
            factors.append(Atom(factor.site, factor.stat, tuple(_composed(m, positions) for m in factor.maps)))
        else:
            array, axes = taken(factor.array, [positions.get(a, a) for a in factor.maps])
            factors.append(Known(array, axes))
    inner = {axis for factor in factors for axis in factor_axes(factor)} - set(out)
    return normalised(term.coefficient, factors, out, inner)


def _composed(position: Map, positions: Mapping[Axis, Map]) -> Map:
    if not isinstance(position, Gather):
        return positions.get(position, position)
    if not any(axis in positions for axis in position.axes):
        return position
    return gathered(*taken(position.index, [positions.get(a, a) for a in position.axes]))


def taken(array: Any, maps: Sequence[Map]) -> tuple[Any, tuple[Axis, ...]]:
    """The array addressed by one map per axis, with distinct labels for the axes of the result."""
    gathers = [i for i, m in enumerate(maps) if isinstance(m, Gather)]
    labels: tuple[Axis, ...] = tuple(maps)  # type: ignore[assignment]
    if gathers:
        plain = [i for i in range(len(maps)) if i not in gathers]
        shared = tuple(dict.fromkeys(axis for i in gathers for axis in map_axes(maps[i])))
        xp = namespace(array, *(m.index for m in maps if isinstance(m, Gather)))
        moved = xp.transpose(xp.asarray(array), [*gathers, *plain])
        array = moved[tuple(_spread(maps[i], shared) for i in gathers)]
        labels = (*shared, *(maps[i] for i in plain))  # type: ignore[arg-type]
    distinct = tuple(dict.fromkeys(labels))
    return (array if len(distinct) == len(labels) else contract([array], [labels], distinct)), distinct


def _spread(position: Map, shared: Sequence[Axis]) -> Any:
    """The index array of a gather, with an axis (possibly of length 1) for each of `shared`."""
    assert isinstance(position, Gather)
    xp = namespace(position.index)
    index = xp.transpose(
        position.index, sorted(range(len(position.axes)), key=lambda i: shared.index(position.axes[i]))
    )
    return index.reshape([axis.size if axis in position.axes else 1 for axis in shared])


def merged(terms: Iterable[Term]) -> list[Term]:
    """Like terms added together, zeros dropped."""
    found: dict[Any, Term] = {}
    for term in terms:
        key = _key(term)
        if key in found:
            term = Term(found[key].coefficient + term.coefficient, term.factors, term.out)
        found[key] = term
    return [term for term in found.values() if term.coefficient != 0.0]


def _key(term: Term) -> tuple[Any, ...]:
    """Equal for terms that differ only in their coefficient and the names of their labels."""
    numbers: dict[Axis, int] = {}
    for axis in term.out:
        if axis is not None:
            numbers.setdefault(axis, len(numbers))
    parts: list[Any] = [tuple(None if a is None else numbers[a] for a in term.out)]
    ordered = sorted(term.atoms, key=lambda a: (a.site, a.stat, [numbers.get(x, 99) for x in factor_axes(a)]))
    for atom in ordered:
        maps = []
        for position in atom.maps:
            labels = tuple(numbers.setdefault(axis, len(numbers)) for axis in map_axes(position))
            maps.append((_index_key(position), labels) if isinstance(position, Gather) else labels)
        parts.append((atom.site, atom.stat, tuple(maps)))
    for factor in term.factors:
        if isinstance(factor, Known):
            parts.append((_array_key(factor.array), tuple(numbers.setdefault(a, len(numbers)) for a in factor.maps)))
    return tuple(parts)


def _index_key(position: Gather) -> Any:
    return position.offset if position.offset is not None else _array_key(position.index)


def _array_key(array: Any) -> Any:
    return (array.shape, array.tobytes()) if is_concrete(array) and array.size <= 10_000 else id(array)
