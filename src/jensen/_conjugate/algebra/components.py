"""Components: entries of latents that the values of a discrete latent choose among, alike but for their number."""

from collections.abc import Iterable, Iterator

import numpy as np

from jensen._conjugate.algebra.energy import Energy, SiteTerm, Slot
from jensen._conjugate.algebra.model import ConjugateModel
from jensen._conjugate.algebra.terms import Axis, Known

Place = tuple[str, int]
"""A latent and one of its axes."""


def components(model: ConjugateModel, name: str) -> tuple[Place, ...]:
    """The axes of latents that the values of a discrete block number, if their entries can be renumbered together.

    An axis counts where a term takes it at the label of the block's value (mu[c]), or ties it to one that counts. It is
    left out where something tells its entries apart: a known array that varies along it, or a fixed place; and with it
    what is tied to it by a term without the block. What remains is what a component has of its own: a mixture with
    uneven weights keeps its means.
    """
    found, sites = _linked(model, name), set(model.blocks[name].sites)
    while found:
        apart = {place for entry in model.energy.terms for place in _apart(model.energy, entry, found, sites)}
        if not apart:
            break
        found -= apart
    return tuple(sorted(found))


def _linked(model: ConjugateModel, name: str) -> set[Place]:
    found: set[Place] = set()
    for entry in model.layout.touching[name]:
        labels = _labels(entry, model.blocks[name].sites)
        found |= {place for place, axis in _places(entry) if axis in labels and _open(model, place[0])}
    before = -1
    while len(found) > before:
        before = len(found)
        for entry in model.energy.terms:
            along = {axis for place, axis in _places(entry) if place in found}
            found |= {place for place, axis in _places(entry) if axis in along and _open(model, place[0])}
    return found


def _open(model: ConjugateModel, site: str) -> bool:
    """Whether the latent is one whose entries a component may own: a continuous one."""
    return not model.blocks[model.layout.owner[site]].discrete


def _labels(entry: SiteTerm, sites: Iterable[str]) -> set[Axis]:
    """The labels of the values of these sites in a term."""
    return {a.maps[0] for a in entry.term.atoms if a.site in sites and isinstance(a.maps[0], Axis)}


def _places(entry: SiteTerm) -> Iterator[tuple[Place, Axis]]:
    for atom in entry.term.atoms:
        yield from (((atom.site, i), m) for i, m in enumerate(atom.maps) if isinstance(m, Axis))


def _apart(energy: Energy, entry: SiteTerm, found: set[Place], sites: set[str]) -> set[Place]:
    """The axes among these whose entries a term tells apart."""
    named: dict[Axis, set[Place]] = {}
    fixed: set[Place] = set()
    for atom in entry.term.atoms:
        for i, position in enumerate(atom.maps):
            if (atom.site, i) in found:
                if isinstance(position, Axis):
                    named.setdefault(position, set()).add((atom.site, i))
                else:
                    fixed.add((atom.site, i))
    varying = {axis for axis in named for f in entry.term.factors if isinstance(f, Known) and _varies(energy, f, axis)}
    if not any(a.site in sites for a in entry.term.atoms):
        varying |= {axis for place, axis in _places(entry) if axis in named and place not in found}
    return fixed.union(*(named[axis] for axis in varying)) if varying else fixed


def _varies(energy: Energy, factor: Known, axis: Axis) -> bool:
    if axis not in factor.maps:
        return False
    array = energy.arrays[factor.array.index] if isinstance(factor.array, Slot) else factor.array
    values = np.moveaxis(np.asarray(array), factor.maps.index(axis), 0)
    return not np.allclose(values, values[:1], rtol=1e-12, atol=0.0)


__all__ = ["components"]
