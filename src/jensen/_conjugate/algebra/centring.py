"""Rows in single precision: what is squared is centred first.

x² - 2 x μ + μ² loses all its digits in single precision when x is far from the origin. With x = c + x̃, c the mean over
the rows, every term is multiplied out: the powers of x̃ go to the rows, in single precision, and those of c to the
globals, in double precision. Statistics and messages stay what they were.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jensen._conjugate.algebra.energy import Energy, SiteTerm, Slot
from jensen._conjugate.algebra.terms import Axis, Gather, Known, Term, fresh

NEAR = 0.1
"""Means below this many standard deviations are left where they are."""


def in_single(energy: Energy, plate: str) -> tuple[tuple[SiteTerm, ...], tuple[Any, ...], tuple[int, ...]]:
    """(terms, arrays, which were centred): arrays over the plate in single precision, centred where squared."""
    axes = _row_axes(energy.terms, plate)
    squared = _squared(energy.terms)
    arrays, shifts = list(energy.arrays), {}
    for index, axis in axes.items():
        if not jnp.issubdtype(arrays[index].dtype, jnp.floating):
            continue
        whole = np.asarray(arrays[index])
        if index in squared:
            mean = whole.mean(axis)
            if np.any(np.abs(mean) > NEAR * whole.std(axis)):
                shifts[index] = Slot(len(arrays))
                arrays.append(jnp.asarray(mean))
                whole = whole - np.expand_dims(mean, axis)
        arrays[index] = jnp.asarray(whole.astype(np.float32))
    terms = [expanded for entry in energy.terms for expanded in _expanded(entry, shifts, plate)]
    return tuple(terms), tuple(arrays), tuple(shifts)


def _row_axes(terms: Sequence[SiteTerm], plate: str) -> dict[int, int]:
    """Array number -> its axis over the plate, for known arrays; index arrays stay as they are."""
    found = {}
    for entry in terms:
        for factor in entry.term.factors:
            if isinstance(factor, Known) and isinstance(factor.array, Slot):
                for i, axis in enumerate(factor.maps):
                    if axis.plate == plate:
                        found[factor.array.index] = i
    gathered = {
        m.index.index
        for entry in terms
        for factor in entry.term.factors
        for m in factor.maps
        if isinstance(m, Gather) and isinstance(m.index, Slot)
    }
    return {index: axis for index, axis in found.items() if index not in gathered}


def _squared(terms: Sequence[SiteTerm]) -> set[int]:
    """Numbers of the arrays that stand more than once in a term."""
    found = set()
    for entry in terms:
        counts = Counter(
            f.array.index for f in entry.term.factors if isinstance(f, Known) and isinstance(f.array, Slot)
        )
        found |= {index for index, count in counts.items() if count > 1}
    return found


def _expanded(entry: SiteTerm, shifts: dict[int, Slot], plate: str) -> list[SiteTerm]:
    """The term with c + x̃ for x, multiplied out."""
    choices: list[list[Any]] = []
    for factor in entry.term.factors:
        options: list[Any] = [factor]
        if isinstance(factor, Known) and isinstance(factor.array, Slot) and factor.array.index in shifts:
            kept: tuple[Axis, ...] = tuple(axis for axis in factor.maps if axis.plate != plate)
            options.append(Known(shifts[factor.array.index], kept))
        choices.append(options)
    return [
        SiteTerm(entry.site, fresh(Term(entry.term.coefficient, tuple(factors), entry.term.out)), entry.number)
        for factors in itertools.product(*choices)
    ]
