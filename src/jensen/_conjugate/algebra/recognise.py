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
    INVERSE,
    LINEAR,
    LOG,
    LOG1M,
    LOGDET,
    MAX_COUPLED,
    PAIR,
    SQUARE,
    Block,
    HostNatural,
    Signature,
    signature,
)
from jensen._conjugate.algebra.chains import chain_axes, discrete_chain, gaussian_chain, is_discrete_pair
from jensen._conjugate.algebra.energy import Energy, SiteTerm
from jensen._conjugate.algebra.terms import Atom, Map, Stat, same_map
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.algebra.value import describe_term
from jensen._families.exponential import (
    AbstractExponentialFactor,
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


def recognise(site: SiteInfo, energy: Energy, sites: dict[str, SiteInfo]) -> Block:
    """The block of one site, from its support and the statistics in which the log joint holds it.

    Raises a `ModelError` that names the site, the term and where it comes from when no family has these statistics.
    """
    uses = _uses(site, energy)
    if site.values is not None:
        return _discrete(site, uses, sites)
    maker = RECOGNISERS.get(type(site.base_support))
    if maker is None:
        raise ModelError(
            f"The latent '{site.name}' has support {described(site.support)}, for which no exponential family is "
            "known here.",
            site.where,
            "Use a prior on the real line, the positive half-line, [0, 1], the simplex or the positive definite "
            "matrices; or use advi, which transforms any support.",
        )
    return maker(site, uses, sites)


def described(support: Any) -> str:
    """A support for messages, its bounds where they are plain numbers."""
    name = type(support).__name__.strip("_")
    bounds = [getattr(support, n, None) for n in ("lower_bound", "upper_bound")]
    plain = [f"{b:g}" for b in bounds if isinstance(b, (int, float))]
    given = [b for b in bounds if b is not None]
    return f"{name}({', '.join(plain) if len(plain) == len(given) else 'bounds from data'})" if given else name


Uses: TypeAlias = list[tuple[Signature, tuple[Atom, ...], SiteTerm]]


def _uses(site: SiteInfo, energy: Energy) -> Uses:
    uses = []
    for entry in energy.terms:
        atoms = tuple(a for a in entry.term.atoms if a.site == site.name)
        if atoms:
            uses.append((signature(atoms), atoms, entry))
    return uses


def _refuse(site: SiteInfo, entry: SiteTerm, sites: dict[str, SiteInfo], family: str, remedy: str) -> ModelError:
    where = site.where if entry.site == site.name else f"{site.where} The term: {sites[entry.site].where}"
    return ModelError(
        f"The latent '{site.name}' enters the log joint through [{describe_term(entry.term)}], from site "
        f"'{entry.site}', which is not a sufficient statistic of {family}.",
        where,
        remedy,
    )


def _check(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo], allowed: Sequence[Signature], family: str) -> None:
    for found, _, entry in uses:
        if found not in allowed:
            raise _refuse(site, entry, sites, family, _remedy(found))


def _remedy(found: Signature) -> str:
    if any(s.kind == "log" for s in found) and len(found) > 1:
        return "Give it a Gamma or InverseGamma prior instead of a LogNormal one, or use advi."
    return "Change the prior or the likelihood so that they are conjugate, or use advi, which needs no conjugacy."


def _site_block(
    site: SiteInfo,
    names: dict[Signature, str],
    shapes: dict[str, tuple[int, ...]],
    factor: Callable[[Natural], AbstractExponentialFactor],
    start: Callable[[np.random.Generator, tuple[int, ...]], HostNatural],
    at: Callable[..., HostNatural],
    nearby: Callable[[np.random.Generator, HostNatural], HostNatural] | None = None,
) -> Block:
    """A block whose every term holds one atom, found by its statistic under the site's own axes."""

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        return moments[names[signature(atoms)]], atoms[0].maps

    plates = tuple(p.name for p in site.plates)
    return Block(site.name, (site.name,), factor, find, shapes, start, at, nearby, plates=plates)


def _real(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo]) -> Block:
    _check(site, uses, sites, (LINEAR, SQUARE, PAIR), "a Gaussian")
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
        return _normal(site)
    axes = chain_axes([(atoms[0], atoms[1]) for found, atoms, _ in uses if found == PAIR])
    return _coupled_normal(site, coupled) if axes is None else gaussian_chain(site, axes)


def _normal(site: SiteInfo) -> Block:
    def at(value: np.ndarray) -> HostNatural:
        return {"z": value, "zz": value**2}

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(0.1 * rng.normal(size=shape))

    def nearby(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
        sd = np.sqrt(np.maximum(moments["zz"] - moments["z"] ** 2, 0.0))
        return at(moments["z"] + sd * rng.normal(size=site.shape))

    shapes: dict[str, tuple[int, ...]] = {"z": site.shape, "zz": site.shape}
    return _site_block(site, {LINEAR: "z", SQUARE: "zz"}, shapes, Normal, start, at, nearby)


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


def _positive(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo]) -> Block:
    powers = {found[0].power: entry for found, _, entry in uses if len(found) == 1 and found[0].kind == "power"}
    _check(site, uses, sites, [LOG, *((Stat("power", p),) for p in powers)], "a gamma distribution on a power of it")
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

    def at(value: np.ndarray) -> HostNatural:
        return {"power": value**power, "log": np.log(value)}

    names = {(Stat("power", power),): "power", LOG: "log"}
    shapes: dict[str, tuple[int, ...]] = {"power": site.shape, "log": site.shape}
    return _site_block(site, names, shapes, factor, lambda rng, shape: at(np.ones(shape)), at)


def _unit(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo]) -> Block:
    support = site.base_support
    bounds = (support.lower_bound, support.upper_bound)
    if not all(isinstance(b, (int, float)) for b in bounds) or bounds != (0, 1):
        raise ModelError(
            f"The latent '{site.name}' has support {described(support)}: a truncated conditional, not a beta "
            "distribution.",
            site.where,
            "Use a Beta prior on [0, 1] and rescale it, or use advi, which transforms any interval.",
        )
    _check(site, uses, sites, (LOG, LOG1M), "a beta distribution")

    def at(value: np.ndarray) -> HostNatural:
        return {"log": np.log(value), "log1m": np.log1p(-value)}

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(np.full(shape, 0.5))

    return _site_block(site, {LOG: "log", LOG1M: "log1m"}, dict.fromkeys(("log", "log1m"), site.shape), Beta, start, at)


def _simplex(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo]) -> Block:
    _check(site, uses, sites, (LOG,), "a Dirichlet distribution")

    def at(value: np.ndarray) -> HostNatural:
        return {"log": np.log(value)}

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(rng.dirichlet(np.full(shape[-1], 10.0), shape[:-1]))

    return _site_block(site, {LOG: "log"}, {"log": site.shape}, Dirichlet, start, at)


def _positive_definite(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo]) -> Block:
    inverted = any(found == INVERSE for found, _, _ in uses)
    linear = INVERSE if inverted else LINEAR
    _check(site, uses, sites, (linear, LOGDET), "an inverse Wishart" if inverted else "a Wishart distribution")
    batch = site.shape[:-2]

    def factor(natural: Natural) -> Wishart:
        return Wishart(natural, inverted)

    def at(value: np.ndarray) -> HostNatural:
        return {"matrix": np.linalg.inv(value) if inverted else value, "logdet": np.linalg.slogdet(value)[1]}

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(np.broadcast_to(np.eye(shape[-1]), shape))

    shapes = {"matrix": site.shape, "logdet": batch}
    return _site_block(site, {linear: "matrix", LOGDET: "logdet"}, shapes, factor, start, at)


def _discrete(site: SiteInfo, uses: Uses, sites: dict[str, SiteInfo]) -> Block:
    pairs = [is_discrete_pair(atoms) for _, atoms, _ in uses]
    for pair, (found, _, entry) in zip(pairs, uses, strict=True):
        if found not in (INDICATOR, ENTROPY) and not pair:
            raise _refuse(site, entry, sites, "one independent discrete variable per entry", "Use another method.")
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


RECOGNISERS: dict[type, Callable[[SiteInfo, Uses, dict[str, SiteInfo]], Block]] = {
    type(constraints.real): _real,
    type(constraints.real_vector): _real,
    type(constraints.positive): _positive,
    type(constraints.nonnegative): _positive,
    type(constraints.unit_interval): _unit,
    type(constraints.interval(0.0, 1.0)): _unit,
    type(constraints.open_interval(0.0, 1.0)): _unit,
    type(constraints.simplex): _simplex,
    type(constraints.positive_definite): _positive_definite,
}
"""Support -> the function that recognises its family."""
