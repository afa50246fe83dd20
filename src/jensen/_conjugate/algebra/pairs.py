"""Declared pairs of a Gaussian site and its precision: normal-gamma and normal-Wishart blocks."""

from collections.abc import Callable, Sequence

import numpy as np

from jensen._base.errors import ModelError
from jensen._base.typing import Array
from jensen._conjugate.algebra.blocks import LINEAR, LOG, LOGDET, PAIR, SQUARE, Block, HostNatural, Signature, signature
from jensen._conjugate.algebra.energy import SiteTerm
from jensen._conjugate.algebra.terms import Atom, Map, factor_axes, map_axes, same_map, same_maps
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.algebra.value import describe_term
from jensen._families.exponential import AbstractExponentialFactor, Natural, NormalGamma, NormalWishart

Uses = list[tuple[tuple[Atom, ...], SiteTerm]]


def refuse(members: Sequence[SiteInfo], entry: SiteTerm, family: str, remedy: str) -> ModelError:
    """The error for a term that a joint family lacks."""
    return ModelError(
        f"The term [{describe_term(entry.term)}], from site '{entry.site}', does not fit {family} of "
        f"{', '.join(repr(s.name) for s in members)}.",
        " ".join(s.where for s in members),
        remedy,
    )


def normal_gamma(real: SiteInfo, positive: SiteInfo, uses: Uses) -> Block:
    """The block of a mean and a precision, elementwise."""
    names: dict[tuple[Signature, Signature], str] = {
        (SQUARE, LINEAR): "tzz",
        (LINEAR, LINEAR): "tz",
        ((), LINEAR): "t",
        ((), LOG): "log",
    }

    def key(atoms: Sequence[Atom]) -> tuple[Signature, Signature]:
        return signature([a for a in atoms if a.site == real.name]), signature(
            [a for a in atoms if a.site == positive.name]
        )

    for atoms, entry in uses:
        same = all(same_maps(atoms[0].maps, a.maps) for a in atoms)
        if key(atoms) not in names or not same or real.shape != positive.shape:
            raise refuse(
                (real, positive),
                entry,
                "a normal-gamma factor",
                f"Both sites need one shape, and every term of '{real.name}' must hold '{positive.name}': write its "
                f"prior as Normal(m, s / sqrt({positive.name})).",
            )

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        return moments[names[key(atoms)]], atoms[0].maps

    def at(z: np.ndarray, tau: np.ndarray) -> HostNatural:
        return {"tzz": tau * z**2, "tz": tau * z, "t": tau, "log": np.log(tau)}

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(0.1 * rng.normal(size=shape), np.ones(shape))

    return block_of((real, positive), NormalGamma, find, dict.fromkeys(names.values(), real.shape), start, at)


def block_of(
    members: Sequence[SiteInfo],
    factor: Callable[[Natural], AbstractExponentialFactor],
    find: Callable[[Natural, Sequence[Atom]], tuple[Array, tuple[Map, ...]]],
    shapes: dict[str, tuple[int, ...]],
    start: Callable[[np.random.Generator, tuple[int, ...]], HostNatural],
    at: Callable[..., HostNatural],
    discrete: bool = False,
) -> Block:
    """A joint block of these sites, in this order."""
    names = tuple(s.name for s in members)
    plates = tuple(p.name for p in members[0].plates)
    return Block("+".join(names), names, factor, find, shapes, start, at, discrete=discrete, plates=plates)


def normal_wishart(real: SiteInfo, matrix: SiteInfo, uses: Uses) -> Block:
    """The block of a mean and a precision matrix: quadratic forms, products, and the matrix by itself."""
    for atoms, entry in uses:
        if _wishart_use(real, atoms, entry) is None or real.shape[:-1] != matrix.shape[:-2]:
            raise refuse(
                (real, matrix),
                entry,
                "a normal-Wishart factor",
                f"Both sites need the same plates, and every term of '{real.name}' must hold '{matrix.name}': write "
                f"its prior as MultivariateNormal(m, precision_matrix=k * {matrix.name}).",
            )
    shapes = {
        "quadratic": real.shape[:-1],
        "product": real.shape,
        "matrix": matrix.shape,
        "logdet": real.shape[:-1],
    }

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        kind = _wishart_use(real, atoms, None)
        assert kind is not None
        name, maps = kind
        return moments[name], maps

    def at(z: np.ndarray, precision: np.ndarray) -> HostNatural:
        product = np.einsum("...ij,...j->...i", precision, z)
        return {
            "quadratic": np.sum(z * product, -1),
            "product": product,
            "matrix": precision,
            "logdet": np.linalg.slogdet(precision)[1],
        }

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(0.1 * rng.normal(size=shape), np.broadcast_to(np.eye(shape[-1]), (*shape, shape[-1])))

    return block_of((real, matrix), NormalWishart, find, shapes, start, at)


def _wishart_use(real: SiteInfo, atoms: Sequence[Atom], entry: SiteTerm | None) -> tuple[str, tuple[Map, ...]] | None:
    """(statistic, maps) of the atoms of one term; `None` where the normal-Wishart factor lacks the statistic.

    Axes that are summed between mean and matrix must stand nowhere else in the term (looked at where `entry` is given).
    """
    means = [a for a in atoms if a.site == real.name for _ in range(2 if a.stat.power == 2.0 else 1)]
    others = [a for a in atoms if a.site != real.name]
    found = (signature([a for a in atoms if a.site == real.name]), signature(others))
    if found == ((), LOGDET):
        return "logdet", others[0].maps
    if found == ((), LINEAR):
        return "matrix", others[0].maps
    if found not in ((LINEAR, LINEAR), (PAIR, LINEAR), (SQUARE, LINEAR)):
        return None
    *plates, row, column = others[0].maps
    if any(not same_maps(a.maps[:-1], plates) for a in means):
        return None
    ends = [a.maps[-1] for a in means]
    if len(ends) == 1:
        pairs = [(row, column), (column, row)]
        match = next(((own, free) for own, free in pairs if same_map(own, ends[0])), None)
        summed = [] if match is None else [match[0]]
        result = None if match is None else ("product", (*plates, match[1]))
    else:
        fits = any(same_map(row, a) and same_map(column, b) for a, b in (ends, ends[::-1]))
        summed = [row, column]
        result = ("quadratic", tuple(plates)) if fits else None
    if entry is not None and result is not None:
        axes = {axis for position in summed for axis in map_axes(position)}
        elsewhere = [f for f in entry.term.factors if f not in atoms]
        single = len(axes) == len(summed) or real.shape[-1] == 1
        if not single or any(axes & set(factor_axes(f)) for f in elsewhere):
            return None
    return result
