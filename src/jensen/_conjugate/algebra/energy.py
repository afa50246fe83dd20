"""The expected log joint E_q[log p(x, z)] as an explicit function of the moments of q."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra.arrays import contract, is_concrete
from jensen._conjugate.algebra.statistics import evaluated
from jensen._conjugate.algebra.terms import (
    Atom,
    Axis,
    Factor,
    Gather,
    Known,
    Map,
    Term,
    factor_axes,
    map_axes,
    substituted,
    taken,
)

INLINE = 4096
Lookup: TypeAlias = Callable[[Sequence[Atom]], list[tuple[Array, tuple[Map, ...]]]]
"""The atoms of one term -> arrays that hold the expectation of their product, with one map per axis."""


class Slot(NamedTuple):
    """A place in the list of arrays of an energy."""

    index: int


@dataclass(frozen=True, eq=False)
class SiteTerm:
    """A term of the expected log joint, the site that it comes from and its place among the coefficients."""

    site: str
    term: Term
    number: int


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The terms, their large arrays replaced by slots; the last slot holds the coefficients.

    Coefficients are arguments of compiled programs, not part of them: they hold numbers of rows and hyperparameters.
    """

    terms: tuple[SiteTerm, ...]
    coefficients: Slot


class Energy(eqx.Module):
    """Σ over terms of coefficient · Π known arrays · E[Π atoms], in nats.

    Attributes:
        arrays: the known arrays (data and what was computed from them), arguments of compiled programs.
        skeleton: the terms.
    """

    arrays: tuple[Array, ...]
    skeleton: Skeleton = eqx.field(static=True)

    @property
    def terms(self) -> tuple[SiteTerm, ...]:
        """The terms with the sites they come from."""
        return self.skeleton.terms

    def with_arrays(self, arrays: Iterable[Array]) -> "Energy":
        """The same terms on other arrays."""
        return Energy(tuple(arrays), self.skeleton)

    def __call__(self, lookup: Lookup, terms: Iterable[SiteTerm] | None = None) -> Scalar:
        """The value at the moments that `lookup` finds, of all terms or of some, in nats."""
        return sum(self.parts(lookup, terms), start=jnp.zeros(()))

    def parts(self, lookup: Lookup, terms: Iterable[SiteTerm] | None = None) -> list[Scalar]:
        """The value of each term."""
        return [self._evaluate(entry, lookup) for entry in (self.terms if terms is None else terms)]

    def coefficient(self, entry: SiteTerm) -> Scalar:
        """The coefficient of a term."""
        return self._fetch(self.skeleton.coefficients)[entry.number]

    def _evaluate(self, entry: SiteTerm, lookup: Lookup) -> Scalar:
        operands, labels, term = [], [], entry.term
        for factor in term.factors:
            if isinstance(factor, Known):
                operands.append(self._fetch(factor.array))
                labels.append(factor.maps)
        for array, maps in lookup(term.atoms):
            array, axes = taken(array, [self._fetched_map(m) for m in maps])
            operands.append(array)
            labels.append(axes)
        coefficient = self.coefficient(entry)
        return coefficient * contract(operands, labels, ()) if operands else coefficient

    def _fetch(self, array: Any) -> Any:
        return self.arrays[array.index] if isinstance(array, Slot) else jnp.asarray(array)

    def _fetched_map(self, position: Map) -> Map:
        if isinstance(position, Gather):
            return Gather(self._fetch(position.index), position.axes, position.offset)
        return position


def at_point(values: Mapping[str, Array], kinds: Mapping[str, np.ndarray]) -> Lookup:
    """The lookup of a q concentrated on one point; `kinds` holds the listed values of the discrete latents."""

    def lookup(atoms: Sequence[Atom]) -> list[tuple[Array, tuple[Map, ...]]]:
        return [(_statistic(atom, values[atom.site], kinds.get(atom.site)), atom.maps) for atom in atoms]

    return lookup


def _statistic(atom: Atom, value: Array, listed: np.ndarray | None) -> Array:
    if atom.stat.kind == "entropy":
        return jnp.zeros(value.shape)
    if listed is not None:
        shape = (-1,) + (1,) * value.ndim
        return (value == jnp.asarray(listed).reshape(shape)).astype(jnp.result_type(float))
    return evaluated(atom.stat, value)


def reduced(terms: Mapping[str, Sequence[Term]], by_row: bool = False) -> tuple[Skeleton, list[Any]]:
    """(terms with slots, the arrays of the slots). To be called while tracing.

    Labels that only known arrays carry are summed at once, where that saves memory: Σ_n x_ni x_nj becomes one matrix.
    With `by_row` the labels of plates are left alone, so that every row keeps its own share of every term.
    """
    slots: dict[int, tuple[Slot, Any]] = {}

    def placed(array: Any, kind: Any) -> Any:
        if is_concrete(array) and array.size <= INLINE:
            return np.asarray(array, kind)
        return slots.setdefault(id(array), (Slot(len(slots)), jnp.asarray(array, kind)))[0]

    entries = []
    for site, group in terms.items():
        for term in group:
            term = _contracted(without_identities(term), by_row)
            factors: list[Factor] = []
            for factor in term.factors:
                if isinstance(factor, Known):
                    factors.append(Known(placed(factor.array, jnp.result_type(float)), factor.maps))
                else:
                    maps = (
                        Gather(placed(m.index, int), m.axes, m.offset) if isinstance(m, Gather) else m
                        for m in factor.maps
                    )
                    factors.append(Atom(factor.site, factor.stat, tuple(maps)))
            entries.append(SiteTerm(site, Term(term.coefficient, tuple(factors), term.out), len(entries)))
    coefficients = np.array([entry.term.coefficient for entry in entries], jnp.result_type(float))
    arrays = [*(array for _, array in slots.values()), jnp.asarray(coefficients)]
    return Skeleton(tuple(entries), Slot(len(slots))), arrays


def with_slots(skeleton: Skeleton, places: Sequence[int]) -> Skeleton:
    """The terms with slot i replaced by slot `places[i]`."""

    def moved(array: Any) -> Any:
        return Slot(places[array.index]) if isinstance(array, Slot) else array

    def factor(found: Factor) -> Factor:
        maps = tuple(Gather(moved(m.index), m.axes, m.offset) if isinstance(m, Gather) else m for m in found.maps)
        return Known(moved(found.array), maps) if isinstance(found, Known) else Atom(found.site, found.stat, maps)  # type: ignore[arg-type]

    terms = tuple(
        SiteTerm(t.site, Term(t.term.coefficient, tuple(map(factor, t.term.factors)), t.term.out), t.number)
        for t in skeleton.terms
    )
    return Skeleton(terms, moved(skeleton.coefficients))


def without_identities(term: Term) -> Term:
    """Σ_j δ_ij f_j = f_i: one_hot(c) @ mu is then mu[c], and its components stay independent."""
    for factor in term.factors:
        if not isinstance(factor, Known) or len(factor.maps) != 2 or not is_concrete(factor.array):
            continue
        rows, columns = factor.array.shape
        if rows == columns and np.array_equal(factor.array, np.eye(rows)):
            rest = Term(term.coefficient, tuple(f for f in term.factors if f is not factor), ())
            return without_identities(substituted(rest, {factor.maps[1]: factor.maps[0]}, ()))
    return term


def _contracted(term: Term, by_row: bool) -> Term:
    held = {axis for atom in term.atoms for axis in factor_axes(atom)}
    held |= {axis for axis in term.axes if by_row and axis.plate is not None}
    known = [f for f in term.factors if isinstance(f, Known)]
    group = [f for f in known if any(axis not in held for axis in f.maps)]
    if not group:
        return term
    axes = tuple(dict.fromkeys(axis for f in group for axis in f.maps))
    out = tuple(axis for axis in axes if axis in held)
    size = float(np.prod([axis.size for axis in out]))
    if size > 2 * sum(np.size(f.array) for f in group):
        return term
    array = contract([_as_float(f.array) for f in group], [f.maps for f in group], out)
    factors = (Known(array, out), *(f for f in term.factors if f not in group))
    if not out and is_concrete(array):
        return Term(term.coefficient * float(array), factors[1:], term.out)
    return Term(term.coefficient, factors, term.out)


def _as_float(array: Any) -> Any:
    return np.asarray(array, float) if is_concrete(array) else jnp.asarray(array, jnp.result_type(float))


def plates_of(term: Term) -> set[str]:
    """The plates that a term runs over."""
    return {axis.plate for axis in term.axes if axis.plate is not None}


__all__ = ["Axis", "Energy", "SiteTerm", "Skeleton", "Slot", "at_point", "map_axes", "plates_of", "reduced"]
