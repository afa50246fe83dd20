"""The family that `advi` is asked for, by name or by block, and where it starts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import OptionError, nearest
from jensen._base.typing import leaf
from jensen._families import (
    AbstractGaussian,
    AbstractLocationScale,
    Blocks,
    Flow,
    FullRank,
    LowRank,
    MeanField,
    Mixture,
    StudentT,
)
from jensen._families.structured import Structured, eliminated, padded
from jensen._gaussian import fixed_draws
from jensen._model import Target
from jensen._program.structure import Structure

GAUSSIAN = ("mean_field", "full_rank", "low_rank", "structured")
FLEXIBLE: dict[str, type[AbstractLocationScale]] = {"mixture": Mixture, "flow": Flow, "student_t": StudentT}
FAMILIES = (*GAUSSIAN, *FLEXIBLE)
OF_A_BLOCK = ("mean_field", "full_rank", "low_rank", "flow", "student_t")
BY_STEPS = ("low_rank", "structured")
"""Gaussians fitted on fresh draws whatever the engine."""

Kind = str | type[AbstractLocationScale]
Chosen = Kind | tuple[tuple[tuple[str, ...], Any], ...]
"""A family by its name or its class, or families by the sites of their blocks."""
Given = Kind | Mapping[str, Kind] | Mapping[tuple[str, ...], Kind] | Mapping[str | tuple[str, ...], Kind]
"""The same as users write it: families by a site or by a tuple of sites."""


def as_chosen(family: Given) -> Chosen:
    """A mapping of a site, or a tuple of sites, to a family as something that can be compared and hashed."""
    if isinstance(family, Mapping):
        pairs = ((sites, as_chosen(kind)) for sites, kind in family.items())
        return tuple(((sites,) if isinstance(sites, str) else tuple(sites), kind) for sites, kind in pairs)
    return next((name for name, kind in FLEXIBLE.items() if kind is family), family)


def is_flexible(family: Chosen) -> bool:
    """Whether it is fitted as a density of no particular kind."""
    return not isinstance(family, str) or family in FLEXIBLE


def in_words(family: Chosen) -> str:
    """What a family is called in reports."""
    return "blocks" if isinstance(family, tuple) else family if isinstance(family, str) else family.__name__


def _is_kind(family: Any) -> bool:
    return isinstance(family, type) and issubclass(family, AbstractLocationScale)


def check_family(family: Any) -> None:
    """Refuse names that do not exist; a model is not needed for it."""
    if _is_kind(family):
        return
    if isinstance(family, str):
        if family not in FAMILIES:
            raise OptionError(f"advi has no family '{family}'.", "Option: family.", nearest(family, FAMILIES))
        return
    if not isinstance(family, tuple) or not family:
        raise OptionError(
            f"`family` must be a name, a location-scale family or a mapping of sites, not {type(family).__name__}.",
            "Option: family of advi.",
            f"Names: {', '.join(FAMILIES)}.",
        )
    for sites, name in family:
        if name not in OF_A_BLOCK and not _is_kind(name):
            raise OptionError(
                f"A block has no family {name!r}.",
                f"Option: family of advi, block {', '.join(sites)}.",
                nearest(str(name), OF_A_BLOCK),
            )
    named = [site for sites, _ in family for site in sites]
    twice = sorted({site for site in named if named.count(site) > 1})
    if twice:
        raise OptionError(f"'{twice[0]}' is in two blocks.", "Option: family of advi.", "Name each site once.")


def gaussian_of(family: str, begin: AbstractGaussian, target: Target, rank: int | None, seed: int) -> AbstractGaussian:
    """The Gaussian family asked for, started at `begin`."""
    if family == "structured":
        return structured(target, begin, seed)
    if family == "low_rank":
        rank = min(begin.dim, 10 if rank is None else rank)
        if isinstance(begin, FullRank):
            return LowRank.from_covariance(np.asarray(begin.loc, float), begin.covariance(), rank)
        return LowRank.around(begin, rank, seed)
    if family == "mean_field" and isinstance(begin, FullRank):
        return fixed_draws.standard_start(begin)
    return begin


def structured(target: Target, begin: AbstractGaussian, seed: int) -> Structured:
    """A Gaussian on the graph of the posterior's own dependences."""
    parents = eliminated(dependence_graph(target, begin, seed))
    if isinstance(begin, FullRank):
        return Structured.from_covariance(np.asarray(begin.loc, float), begin.covariance(), parents)
    width = max((len(row) for row in parents), default=0)
    loc, log_scale, weights = np.asarray(begin.loc, float), np.log(begin.scales()), np.zeros((begin.dim, width))
    return Structured(leaf(loc), leaf(log_scale), leaf(weights), padded(parents, width))


def dependence_graph(target: Target, around: AbstractGaussian, seed: int) -> np.ndarray:
    """Which coordinates appear together in a term of the log density, (D, D): entries of the Hessian that are not 0.

    At three points, since an entry may vanish at one. Coordinates that no term holds together have a second derivative
    of exactly zero, whatever the parametrisation. Cost: 6 D gradients.
    """
    noise = np.random.default_rng([seed, 53]).normal(size=(2, around.noise_dim))
    points = np.concatenate([np.asarray(around.loc, float)[None], around.host_transform(noise)])
    graph = np.zeros((target.dim, target.dim), bool)
    for point in points:
        hessian = np.nan_to_num(target.hessian(point))
        scale = np.sqrt(np.abs(np.diag(hessian)))
        graph |= np.abs(hessian) > 1e4 * target.eps * np.maximum(np.outer(scale, scale), 1e-300)
    np.fill_diagonal(graph, False)
    return graph | graph.T


def start_of_blocks(family: Any, begin: FullRank, structure: Structure, seed: int) -> Blocks:
    """Each block's family at the block's marginal of `begin`; sites that no block names are mean field together."""
    known = {site.name: site for site in structure.latents}
    for site in (site for sites, _ in family for site in sites):
        if site not in known:
            raise OptionError(f"There is no latent site '{site}'.", "Option: family of advi.", nearest(site, known))
    rest = tuple(name for name in known if not any(name in sites for sites, _ in family))
    blocks = [*family, *([(rest, "mean_field")] if rest else [])]
    mean, covariance = np.asarray(begin.loc, float), begin.covariance()
    parts, coordinates = [], []
    for sites, name in blocks:
        starts = [(structure.offsets[site], known[site].size) for site in sites]
        own = [start + i for start, size in starts for i in range(size)]
        marginal = FullRank.from_factor(mean[own], np.linalg.cholesky(covariance[np.ix_(own, own)]))
        parts.append(_part(name, marginal, seed))
        coordinates.append(tuple(own))
    return jax.tree.map(jnp.asarray, Blocks(parts, tuple(coordinates)))


def _part(name: Any, marginal: FullRank, seed: int) -> Any:
    kind: Any = FLEXIBLE.get(name, name)
    if _is_kind(kind):
        return kind.start(marginal, seed)
    if name == "mean_field":
        return MeanField(leaf(np.asarray(marginal.loc)), leaf(np.log(marginal.scales())))
    if name == "low_rank":
        return LowRank.from_covariance(np.asarray(marginal.loc), marginal.covariance(), min(marginal.dim, 10))
    return marginal
