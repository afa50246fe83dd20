"""The family of a latent, recognised from its support and the statistics in which the log joint holds it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpyro.distributions import constraints

from jensen._base.errors import ModelError
from jensen._base.typing import Array
from jensen._conjugate.algebra.blocks import (
    ENTROPY,
    INDICATOR,
    LINEAR,
    LOG,
    MAX_COUPLED,
    PAIR,
    SQUARE,
    Block,
    HostNatural,
    signature,
)
from jensen._conjugate.algebra.chains import chain_axes, discrete_chain, gaussian_chain, is_discrete_pair
from jensen._conjugate.algebra.energy import Energy
from jensen._conjugate.algebra.occurrences import Occurrences
from jensen._conjugate.algebra.terms import Atom, Map, Stat, same_map
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.algebra.value import describe_term
from jensen._families.exponential import (
    Beta,
    Categorical,
    CategoricalCopies,
    Dirichlet,
    GammaPower,
    MultivariateNormal,
    Natural,
    Normal,
    Wishart,
)

Maker: TypeAlias = Callable[[Occurrences], Block]
RECOGNISERS: dict[type, tuple[Maker, ...]] = {}
"""Kind of support -> what makes the block of a latent on it, tried in order: the first that does not refuse."""


def recognise(site: SiteInfo, energy: Energy, sites: dict[str, SiteInfo]) -> Block:
    """The block of one site, from its support and the statistics in which the log joint holds it.

    Raises a `ModelError` that names the site, the term and where it comes from when no family has these statistics.
    """
    seen = Occurrences.of(site, energy, sites)
    if site.values is not None:
        return _discrete(seen)
    makers = RECOGNISERS.get(type(site.base_support), ())
    if not makers:
        raise ModelError(
            f"The latent '{site.name}' has support {described(site.support)}, for which no exponential family is "
            "known here.",
            site.where,
            "Use a prior on the real line, the positive half-line, [0, 1], the simplex or the positive definite "
            "matrices; or use advi, which transforms any support.",
        )
    refusals = []
    for maker in makers:
        try:
            return maker(seen)
        except ModelError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def recognises(*supports: Any) -> Callable[[Maker], Maker]:
    """Register what makes the block of latents on these supports, after what is registered for them already."""

    def register(maker: Maker) -> Maker:
        for support in supports:
            RECOGNISERS[type(support)] = (*RECOGNISERS.get(type(support), ()), maker)
        return maker

    return register


def described(support: Any) -> str:
    """A support for messages, its bounds where they are plain numbers."""
    name = type(support).__name__.strip("_")
    bounds = [getattr(support, n, None) for n in ("lower_bound", "upper_bound")]
    plain = [f"{b:g}" for b in bounds if isinstance(b, (int, float))]
    given = [b for b in bounds if b is not None]
    return f"{name}({', '.join(plain) if len(plain) == len(given) else 'bounds from data'})" if given else name


@recognises(constraints.real, constraints.real_vector)
def _real(seen: Occurrences) -> Block:
    site, uses = seen.site, seen.uses
    seen.check((LINEAR, SQUARE, PAIR), "a Gaussian")
    coupled = sorted(
        {
            i
            for found, atoms, _ in uses
            if found == PAIR
            for i, (a, b) in enumerate(zip(atoms[0].maps, atoms[1].maps, strict=True))
            if not same_map(a, b)
        }
    )
    if not coupled:
        return _normal(seen)
    axes = chain_axes([(atoms[0], atoms[1]) for found, atoms, _ in uses if found == PAIR])
    return _coupled_normal(site, coupled) if axes is None else gaussian_chain(site, axes)


def _normal(seen: Occurrences) -> Block:
    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return 0.1 * rng.normal(size=shape)

    def nearby(rng: np.random.Generator, moments: HostNatural) -> np.ndarray:
        sd = np.sqrt(np.maximum(moments["zz"] - moments["z"] ** 2, 0.0))
        return moments["z"] + sd * rng.normal(size=seen.site.shape)

    return seen.block("a Gaussian", {"z": Stat("power", 1.0), "zz": Stat("power", 2.0)}, Normal, start, nearby)


def _coupled_normal(site: SiteInfo, coupled: list[int]) -> Block:
    own = [i for i in range(len(site.shape)) if i not in coupled]
    batch, event = tuple(site.shape[i] for i in own), tuple(site.shape[i] for i in coupled)
    if np.prod(event) > MAX_COUPLED:
        raise ModelError(
            f"'{site.name}' couples {int(np.prod(event))} Gaussian dimensions, whose covariance would be dense.",
            site.where,
            f"At most {MAX_COUPLED} can be coupled here: use advi, or break the site into independent parts.",
        )
    shapes = {"z": site.shape, "zz": (*batch, *event, *event)}

    def factor(natural: Natural) -> MultivariateNormal:
        return MultivariateNormal(natural, tuple(coupled))

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        if signature(atoms) == LINEAR:
            return moments["z"], atoms[0].maps
        left, right = atoms[0].maps, atoms[-1].maps
        return moments["zz"], (
            *(left[i] for i in own),
            *(left[i] for i in coupled),
            *(right[i] for i in coupled),
        )

    order = [*own, *coupled]

    def at(value: np.ndarray) -> HostNatural:
        moved = np.transpose(value, order)
        flat = moved.reshape((*moved.shape[: len(batch)], -1))
        outer = flat[..., :, None] * flat[..., None, :]
        return {"z": value, "zz": outer.reshape((*flat.shape[:-1], *event, *event))}

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(0.1 * rng.normal(size=shape))

    def nearby(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
        dim = int(np.prod(event))
        second = np.diagonal(moments["zz"].reshape((*batch, dim, dim)), axis1=-2, axis2=-1)
        flat = np.transpose(moments["z"], order).reshape((*batch, dim))
        flat = flat + np.sqrt(np.maximum(second - flat**2, 0.0)) * rng.normal(size=flat.shape)
        return at(np.transpose(flat.reshape((*batch, *event)), np.argsort(order)))

    plates = tuple(p.name for p in site.plates)
    return Block(site.name, (site.name,), factor, find, shapes, start, at, nearby, plates=plates)


@recognises(constraints.positive, constraints.nonnegative)
def _positive(seen: Occurrences) -> Block:
    site, uses = seen.site, seen.uses
    powers = {found[0].power: entry for found, _, entry in uses if len(found) == 1 and found[0].kind == "power"}
    family = "a gamma distribution on a power of it"
    seen.check([LOG, *((Stat("power", p),) for p in powers)], family)
    if len(powers) > 1:
        found = "; ".join(f"[{describe_term(e.term)}] from '{e.site}'" for _, e in sorted(powers.items()))
        raise ModelError(
            f"The latent '{site.name}' enters the log joint through several of its powers, {found}: its conditional is "
            "a generalised inverse Gaussian, not a gamma.",
            site.where,
            "Put a Gamma prior on the precision (tau, with scale 1 / sqrt(tau)) or an InverseGamma prior on the "
            "variance; for a half-Cauchy scale, two InverseGamma sites do; or use advi.",
        )
    if not powers:
        raise ModelError(
            f"The latent '{site.name}' enters the log joint only through its log: its conditional is improper.",
            site.where,
            "Give it a Gamma or InverseGamma prior.",
        )
    power = next(iter(powers))

    def factor(natural: Natural) -> GammaPower:
        return GammaPower(natural, power)

    statistics = {"power": Stat("power", power), "log": Stat("log")}
    return seen.block(family, statistics, factor, lambda rng, shape: np.ones(shape))


@recognises(constraints.unit_interval, constraints.interval(0.0, 1.0), constraints.open_interval(0.0, 1.0))
def _unit(seen: Occurrences) -> Block:
    site = seen.site
    support = site.base_support
    bounds = (support.lower_bound, support.upper_bound)
    if not all(isinstance(b, (int, float)) for b in bounds) or bounds != (0, 1):
        raise ModelError(
            f"The latent '{site.name}' has support {described(support)}: a truncated conditional, not a beta "
            "distribution.",
            site.where,
            "Use a Beta prior on [0, 1] and rescale it, or use advi, which transforms any interval.",
        )
    statistics = {"log": Stat("log"), "log1m": Stat("log1m")}
    return seen.block("a beta distribution", statistics, Beta, lambda rng, shape: np.full(shape, 0.5))


@recognises(constraints.simplex)
def _simplex(seen: Occurrences) -> Block:
    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.dirichlet(np.full(shape[-1], 10.0), shape[:-1])

    return seen.block("a Dirichlet distribution", {"log": Stat("log")}, Dirichlet, start)


@recognises(constraints.positive_definite)
def _positive_definite(seen: Occurrences) -> Block:
    inverted = Stat("inverse") in seen.statistics

    def factor(natural: Natural) -> Wishart:
        return Wishart(natural, inverted)

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.eye(shape[-1]), shape)

    family = "an inverse Wishart" if inverted else "a Wishart distribution"
    statistics = {"matrix": Stat("inverse") if inverted else Stat("power", 1.0), "logdet": Stat("logdet")}
    return seen.block(family, statistics, factor, start)


def _discrete(seen: Occurrences) -> Block:
    site, uses = seen.site, seen.uses
    pairs = [is_discrete_pair(atoms) for _, atoms, _ in uses]
    for pair, (found, _, entry) in zip(pairs, uses, strict=True):
        if found not in (INDICATOR, ENTROPY) and not pair:
            raise seen.refused(entry, "one independent discrete variable per entry", "Use another method.")
    if any(pairs):
        return discrete_chain(site)
    assert site.values is not None
    values, copies = site.values, any(found == ENTROPY for found, _, _ in uses)

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        if signature(atoms) == ENTROPY:
            return moments["copies"], atoms[0].maps
        label, *plates = atoms[0].maps
        return moments["indicator"], (*plates, label)

    def complete(probs: np.ndarray) -> HostNatural:
        if not copies:
            return {"indicator": probs}
        logs = np.log(np.maximum(probs, 1e-300))
        return {"indicator": probs, "copies": -np.einsum("...k,...k->...", probs, logs)}

    def at(value: np.ndarray) -> HostNatural:
        return complete((value[..., None] == values) * 1.0)

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return complete(rng.dirichlet(np.ones(len(values)), shape))

    def nearby(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
        logs = np.log(np.maximum(np.asarray(moments["indicator"], float), 1e-300))
        return at(values[np.argmax(logs + rng.gumbel(size=logs.shape), -1)])

    def factor(natural: Natural) -> Categorical | CategoricalCopies:
        return CategoricalCopies(natural, values) if copies else Categorical(natural, values)

    plates = tuple(p.name for p in site.plates)
    shapes = {"indicator": (*site.shape, len(values)), **({"copies": site.shape} if copies else {})}

    def rows_last(natural: Natural) -> Categorical:
        return Categorical(natural, values, 0)

    last = None if copies or len(site.shape) != 1 else rows_last
    return Block(
        site.name,
        (site.name,),
        factor,
        find,
        shapes,
        start,
        at,
        nearby,
        discrete=True,
        plates=plates,
        rows_last=last,
        potentials=True,
        independent=complete,
    )
