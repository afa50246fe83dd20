"""Declared joint blocks: normal-gamma pairs, several Gaussian sites, several discrete sites."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import ModelError, OptionError, nearest
from jensen._base.typing import Array
from jensen._conjugate.algebra.blocks import (
    INDICATOR,
    LINEAR,
    MAX_COUPLED,
    PAIR,
    SQUARE,
    Block,
    HostNatural,
    signature,
)
from jensen._conjugate.algebra.energy import Energy
from jensen._conjugate.algebra.pairs import Uses, block_of, normal_gamma, normal_wishart, refuse
from jensen._conjugate.algebra.terms import Atom, Map, same_maps
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._families.exponential import DiscreteJoint, JointNormal, Natural


def recognise_joint(names: Sequence[str], energy: Energy, sites: dict[str, SiteInfo]) -> Block:
    """The joint block of these latents; raises where no joint family has their statistics."""
    for name in names:
        if name not in sites or sites[name].observed:
            known = [s.name for s in sites.values() if not s.observed]
            raise OptionError(f"blocks names '{name}', which is no latent site.", remedy=nearest(name, known))
    if len(names) < 2:
        raise OptionError(
            f"The block {tuple(names)} holds a single site.", remedy="Name at least two, or leave it out."
        )
    members = [sites[name] for name in names]
    uses: Uses = []
    for entry in energy.terms:
        atoms = tuple(a for a in entry.term.atoms if a.site in names)
        if atoms:
            uses.append((atoms, entry))
    kinds = {s.name: "discrete" if s.values is not None else type(s.base_support).__name__.strip("_") for s in members}
    if set(kinds.values()) == {"discrete"}:
        return _discrete(members, uses)
    if set(kinds.values()) <= {"Real", "RealVector"}:
        return _gaussian(members, uses)
    if len(members) == 2 and sorted(kinds.values()) == ["Positive", "Real"]:
        real, positive = sorted(members, key=lambda s: kinds[s.name] == "Positive")
        return normal_gamma(real, positive, uses)
    if len(members) == 2 and sorted(kinds.values()) == ["PositiveDefinite", "Real"]:
        real, matrix = sorted(members, key=lambda s: kinds[s.name] == "PositiveDefinite")
        return normal_wishart(real, matrix, uses)
    raise ModelError(
        f"There is no joint family for {', '.join(f'{n!r} ({k})' for n, k in kinds.items())}.",
        " ".join(s.where for s in members),
        "Joint blocks are a Gaussian site with its precision (a Gamma or Wishart site), several Gaussian sites, or "
        "several discrete sites.",
    )


def _gaussian(members: Sequence[SiteInfo], uses: Uses) -> Block:
    order = {s.name: i for i, s in enumerate(members)}
    size = sum(int(np.prod(s.shape, dtype=int)) for s in members)
    if size > MAX_COUPLED:
        raise ModelError(
            f"The joint block {tuple(order)} has {size} Gaussian dimensions, whose covariance would be dense.",
            members[0].where,
            f"At most {MAX_COUPLED} can be coupled here.",
        )
    for atoms, entry in uses:
        if signature(atoms) not in (LINEAR, SQUARE, PAIR):
            raise refuse(members, entry, "a joint Gaussian", "Every term must be at most quadratic in these sites.")
    site_shapes = tuple(s.shape for s in members)
    shapes = {f"z{i}": a for i, a in enumerate(site_shapes)}
    for i, a in enumerate(site_shapes):
        shapes |= {f"z{i}z{j}": (*a, *b) for j, b in enumerate(site_shapes) if j >= i}

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        if signature(atoms) == LINEAR:
            return moments[f"z{order[atoms[0].site]}"], atoms[0].maps
        first, last = sorted((atoms[0], atoms[-1]), key=lambda a: order[a.site])
        return moments[f"z{order[first.site]}z{order[last.site]}"], (*first.maps, *last.maps)

    def at(*values: np.ndarray) -> HostNatural:
        moments = {f"z{i}": v for i, v in enumerate(values)}
        for i, a in enumerate(values):
            moments |= {f"z{i}z{j}": np.multiply.outer(a, b) for j, b in enumerate(values) if j >= i}
        return moments

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        del shape
        return at(*(0.1 * rng.normal(size=s) for s in site_shapes))

    return block_of(members, lambda natural: JointNormal(natural, site_shapes), find, shapes, start, at)


def _discrete(members: Sequence[SiteInfo], uses: Uses) -> Block:
    order = {s.name: i for i, s in enumerate(members)}
    supports = tuple(s.values for s in members if s.values is not None)
    shape = members[0].shape
    cliques: dict[str, tuple[int, ...]] = {}
    for atoms, entry in uses:
        found = tuple(sorted(order[a.site] for a in atoms))
        plates = [tuple(a.maps[1:]) for a in atoms]
        distinct = len(set(found)) == len(found) and all(same_maps(plates[0], p) for p in plates)
        if any(a.stat != INDICATOR[0] for a in atoms) or not distinct or any(s.shape != shape for s in members):
            raise refuse(members, entry, "a joint discrete factor", "The sites must share their plates, row by row.")
        cliques[",".join(map(str, found))] = found
    for i in range(len(members)):
        cliques.setdefault(str(i), (i,))
    shapes = {name: (*shape, *(len(supports[i]) for i in found)) for name, found in cliques.items()}
    table = tuple(cliques.items())

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        ordered = sorted(atoms, key=lambda a: order[a.site])
        name = ",".join(str(order[a.site]) for a in ordered)
        return moments[name], (*ordered[0].maps[1:], *(a.maps[0] for a in ordered))

    def factor(natural: Natural) -> DiscreteJoint:
        return DiscreteJoint(natural, table, supports)

    def at(*values: np.ndarray) -> HostNatural:
        zeros = {name: jnp.zeros(s) for name, s in shapes.items()}
        return jax.device_get(factor(zeros).statistics(*(jnp.asarray(v) for v in values)))

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        del shape
        own = [rng.dirichlet(np.ones(len(s)), members[0].shape) for s in supports]
        moments = {}
        for name, found in table:
            product = np.ones(())
            for i, site in enumerate(found):
                lead, last = own[site].shape[:-1], own[site].shape[-1:]
                product = product * own[site].reshape(lead + (1,) * i + last + (1,) * (len(found) - 1 - i))
            moments[name] = product
        return moments

    return block_of(members, factor, find, shapes, start, at, discrete=True)
