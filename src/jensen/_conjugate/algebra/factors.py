"""Each site's log density as terms: the densities applied, masks and scales included, summed over plates."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._base.errors import ModelError
from jensen._conjugate.algebra.densities import DENSITIES
from jensen._conjugate.algebra.interpret import interpret
from jensen._conjugate.algebra.parts import ADDING
from jensen._conjugate.algebra.scan import Piece
from jensen._conjugate.algebra.terms import (
    EXPLICIT,
    PRODUCTS,
    Atom,
    Axis,
    Factor,
    Gather,
    Known,
    Map,
    Stat,
    Term,
    fresh,
    gathered,
    merged,
    normalised,
)
from jensen._conjugate.algebra.trace import SiteInfo, Wrapper, trace_factors
from jensen._conjugate.algebra.value import Opaque, Value, ranked, times, total

REMEDIES = (
    ("softmax", "Give the probabilities a Dirichlet prior, or use advi, which needs no conjugacy."),
    (
        "log(1 + exp(.))",
        "A logistic link is conjugate only with Pólya-Gamma variables (Polson, Scott and Windle 2013): use advi or "
        "laplace, or give the probability a Beta prior.",
    ),
    ("MixtureSameFamily", "Write the mixture with an index: c = sample('c', Categorical(w)), then mu[c]."),
    (
        "HalfCauchy",
        "A half-Cauchy(s) scale is a mixture of inverse gammas: a ~ InverseGamma(1/2, 1 / s**2) and the variance "
        "~ InverseGamma(1/2, 1 / a) (Wand et al. 2011); or use advi, which needs no conjugacy.",
    ),
    (
        "StudentT",
        "A Student-t is a normal whose precision is gamma: w ~ Gamma(df / 2, df / 2), then "
        "Normal(loc, scale / sqrt(w)); or use advi, which needs no conjugacy.",
    ),
    (
        "Laplace",
        "A Laplace density is a normal whose variance is exponential: v ~ Exponential(1 / (2 * scale**2)), then "
        "Normal(loc, sqrt(v)); or use advi, which needs no conjugacy.",
    ),
    ("matrix", "Write the density with precision_matrix= and a Wishart prior."),
    ("concentration", "Fix the concentration, or use advi, which needs no conjugacy."),
    (
        "log of the sum",
        "The log of a sum is taken apart where every summand is a product of positive latents, under a Poisson, "
        "Multinomial or Categorical site: give the latents Gamma, Beta or Dirichlet priors; or use advi.",
    ),
)
FALLBACK = (
    "Coordinate ascent needs log densities that are polynomial in the latents' statistics: choose a conjugate form "
    "(a precision with a Gamma prior, say), or use advi, which needs no conjugacy."
)


def site_terms(
    fn: Callable[..., Any],
    sites: dict[str, SiteInfo],
    kwargs: dict[str, Any],
    given: Mapping[str, Any] | None = None,
    refusals: dict[str, ModelError] | None = None,
) -> dict[str, list[Term]]:
    """Site -> the terms of its expected log density, every label summed over. To be called while tracing.

    A discrete latent appears through its indicators, on exactly the terms that vary with it. Latents in `given` are
    known at these values. With `refusals`, sites whose density is no polynomial are left out, their errors put there.
    """
    token = PRODUCTS.set({})
    given = given or {}
    for name in [name for name, site in sites.items() if site.auxiliary]:
        del sites[name]
    try:
        closed, leaves, pieces, tree = trace_factors(fn, sites, kwargs)
        latents = [
            Value(s.shape, known=given[s.name]) if s.name in given else _latent(s)
            for s in sites.values()
            if not s.observed and s.values is None
        ]
        known = [Value(np.shape(leaf), known=leaf) for leaf in leaves]
        outputs = jax.tree.unflatten(tree, interpret(closed.jaxpr, closed.consts, [*latents, *known]))
        terms: dict[str, list[Term]] = {}
        for name, piece in pieces.items():
            try:
                terms.setdefault(piece.site, []).extend(_terms(sites, piece, outputs[name]))
            except ModelError as refusal:
                if refusals is None:
                    raise
                refusals[piece.site] = refusal
        for name in refusals or ():
            terms.pop(name, None)
        return terms
    finally:
        PRODUCTS.reset(token)


def _latent(site: SiteInfo) -> Value:
    out = tuple(Axis(n) if n > 1 else None for n in site.shape)
    maps: tuple[Map, ...] = tuple(Gather(np.zeros((), int)) if axis is None else axis for axis in out)
    return Value(site.shape, terms=[Term(1.0, (Atom(site.name, Stat("power", 1.0), maps),), out)])


def _terms(sites: dict[str, SiteInfo], piece: Piece, factor: dict[str, Any]) -> list[Term]:
    site, cls = sites[piece.site], piece.cls
    adding = ADDING.set((sites, site))
    try:
        density = _wrapped(_base_density(cls, factor), piece.wrappers, factor)
        if density.why is not None:
            raise Opaque(density.why)
        terms = density.polynomial()
        if site.values is not None and (factor["scale"] is not None or factor["masks"]):
            terms = [*terms, *_entropies(site, density.shape, factor)]
        return merged([_summed(sites, piece, term, density.shape) for term in terms])
    except Opaque as reason:
        which = "" if cls in DENSITIES or cls.__name__ == "Unit" else f"a {cls.__name__} density, in which there is "
        raise ModelError(
            f"The log density of '{site.name}' is not a polynomial in statistics of the latents: it holds {which}"
            f"{reason}.",
            site.where,
            next((remedy for key, remedy in REMEDIES if key in f"{cls.__name__} {reason}"), FALLBACK),
        ) from None
    finally:
        ADDING.reset(adding)


def _entropies(site: SiteInfo, shape: tuple[int, ...], factor: dict[str, Any]) -> list[Term]:
    """w · H for a discrete latent under handlers.scale(w): w exchangeable copies, whose entropies add up (none, where
    it is masked).

    At a point the entropy is zero, so that the log joint is what NumPyro gives it. See `CategoricalCopies`.
    """
    if site.scan is not None:
        raise Opaque(f"'{site.name}', a state of a chain, under handlers.scale or handlers.mask")
    out = tuple(Axis(n) if n > 1 else None for n in site.shape)
    maps: tuple[Map, ...] = tuple(Gather(np.zeros((), int)) if axis is None else axis for axis in out)
    weight = Value(site.shape, terms=[Term(1.0, (Atom(site.name, Stat("entropy"), maps),), out)])
    scale = [] if factor["scale"] is None else [factor["scale"]]
    for known in (*scale, *(Value(m.shape, known=m.known * 1.0) for m in factor["masks"])):
        weight = times(weight, known)
    return ranked(weight, np.broadcast_shapes(weight.shape, (1,) * len(shape))).polynomial()


def _base_density(cls: type, factor: dict[str, Any]) -> Value:
    parameters: dict[str, Value] = factor["parameters"]
    for key, parameter in parameters.items():
        if parameter.why is not None:
            raise Opaque(f"{parameter.why} (in '{key}')" if key != "log_prob" else parameter.why)
    if "log_prob" in parameters:
        return parameters["log_prob"]
    return DENSITIES[cls].log_prob(factor["value"], **parameters)


def _wrapped(density: Value, wrappers: tuple[Wrapper, ...], factor: dict[str, Any]) -> Value:
    masks = iter(factor["masks"])
    for wrapper in wrappers:
        if wrapper.kind == "event":
            density = total(density, range(-wrapper.count, 0))
        elif wrapper.kind == "batch":
            density = ranked(density, np.broadcast_shapes(density.shape, wrapper.shape))
        else:
            mask = next(masks)
            density = times(density, Value(mask.shape, known=mask.known * 1.0))
    return density if factor["scale"] is None else times(density, factor["scale"])


def _summed(sites: dict[str, SiteInfo], piece: Piece, term: Term, shape: tuple[int, ...]) -> Term:
    """The term with the indicators of the discrete latents it varies with, summed over the plates."""
    term = fresh(term)
    out, factors = list(term.out), list(term.factors)
    varies = sites[piece.site].varies
    listed = [s for s in sites.values() if s.values is not None and (varies is None or s.name in varies)]
    enumerated = {dim: s for s in listed for dim in (s.enum_dim, s.before_dim) if dim}
    for dim, latent in enumerated.items():
        if len(out) >= -dim and out[dim] is not None:
            factors.append(_indicator(latent, dim, piece, out, shape))
    coefficient, rank = term.coefficient, len(out)
    for i, axis in enumerate(out):
        if axis is None and i - rank > max(enumerated, default=-1000) and shape[i] > 1:
            if EXPLICIT.get():
                out[i] = Axis(shape[i])
                factors.append(Known(np.ones(shape[i]), (out[i],)))  # type: ignore[arg-type]
            else:
                coefficient *= shape[i]
    for plate in sites[piece.site].plates:
        axis = out[plate.dim] if rank >= -plate.dim else None
        if axis is not None:
            axis.plate = plate.name
    return normalised(coefficient, factors, (), term.inner)


def _indicator(latent: SiteInfo, dim: int, piece: Piece, out: list[Axis | None], shape: tuple[int, ...]) -> Factor:
    """[z = value]: an atom on the enumeration axis `dim` and the latent's own axes."""
    label = out[dim]
    assert label is not None
    maps: list[Map] = [label]
    inside = latent.scan is not None and latent.scan is piece.scan
    if dim == latent.before_dim and not inside:
        raise Opaque(f"the carried value of '{latent.name}', used outside its scan")
    for i, size in enumerate(latent.shape):
        place = i - len(latent.shape)
        if inside and i == 0:
            maps.append(_time(latent, dim, piece, out))
        elif size == 1:
            maps.append(Gather(np.zeros((), int)))
        elif len(shape) < -place or shape[place] != size:
            raise Opaque(f"'{latent.name}' of shape {latent.shape}, used outside its plate")
        else:
            axis = out[place] = out[place] or Axis(size)
            maps.append(axis)
    return Atom(latent.name, Stat("indicator"), tuple(maps))


def _time(latent: SiteInfo, dim: int, piece: Piece, out: list[Axis | None]) -> Map:
    """The step of a state inside the scan: a position in the first piece, the step or the one before in the other."""
    scan = piece.scan
    assert scan is not None
    if piece.step == "first":
        return Gather(scan.positions("first"))
    axis = out[scan.time_dim] = out[scan.time_dim] or Axis(scan.length - 1)
    return gathered(scan.positions("later" if dim == latent.enum_dim else "before"), (axis,))
