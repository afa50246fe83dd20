"""Each site's log density as terms: the densities applied, masks and scales included, summed over plates."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._errors import ModelError
from jensen.models.conjugacy.densities import DENSITIES
from jensen.models.conjugacy.interpret import interpret
from jensen.models.conjugacy.terms import (
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
    merged,
    normalised,
)
from jensen.models.conjugacy.trace import SiteInfo, Wrapper, trace_factors
from jensen.models.conjugacy.value import Opaque, Value, ranked, times, total

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
        "A Poisson rate that is a sum needs latent counts, one for each summand; or use advi.",
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
    try:
        closed, leaves, static, tree = trace_factors(fn, sites, kwargs)
        latents = [
            Value(s.shape, known=given[s.name]) if s.name in given else _latent(s)
            for s in sites.values()
            if not s.observed and s.values is None
        ]
        known = [Value(np.shape(leaf), known=leaf) for leaf in leaves]
        outputs = jax.tree.unflatten(tree, interpret(closed.jaxpr, closed.consts, [*latents, *known]))
        first_enum = max((s.enum_dim for s in sites.values() if s.values is not None), default=-1000)
        terms = {}
        for name in outputs:
            try:
                terms[name] = _terms(sites, name, outputs[name], *static[name], first_enum)
            except ModelError as refusal:
                if refusals is None:
                    raise
                refusals[name] = refusal
        return terms
    finally:
        PRODUCTS.reset(token)


def _latent(site: SiteInfo) -> Value:
    out = tuple(Axis(n) if n > 1 else None for n in site.shape)
    maps: tuple[Map, ...] = tuple(Gather(np.zeros((), int)) if axis is None else axis for axis in out)
    return Value(site.shape, terms=[Term(1.0, (Atom(site.name, Stat("power", 1.0), maps),), out)])


def _terms(
    sites: dict[str, SiteInfo],
    name: str,
    factor: dict[str, Any],
    cls: type,
    wrappers: tuple[Wrapper, ...],
    first_enum: int,
) -> list[Term]:
    site = sites[name]
    try:
        density = _wrapped(_base_density(cls, factor), wrappers, factor)
        if density.why is not None:
            raise Opaque(density.why)
        terms = density.polynomial()
    except Opaque as reason:
        which = "" if cls in DENSITIES or cls.__name__ == "Unit" else f"a {cls.__name__} density, in which there is "
        raise ModelError(
            f"The log density of '{name}' is not a polynomial in statistics of the latents: it holds {which}{reason}.",
            site.where,
            next((remedy for key, remedy in REMEDIES if key in f"{cls.__name__} {reason}"), FALLBACK),
        ) from None
    if site.values is not None and (factor["scale"] is not None or factor["masks"]):
        terms = [*terms, *_entropies(site, density.shape, factor)]
    return merged([_summed(sites, site, term, density.shape, first_enum) for term in terms])


def _entropies(site: SiteInfo, shape: tuple[int, ...], factor: dict[str, Any]) -> list[Term]:
    """w · H for a discrete latent under handlers.scale(w): w exchangeable copies, whose entropies add up (none, where
    it is masked).

    At a point the entropy is zero, so that the log joint is what NumPyro gives it. See `CategoricalCopies`.
    """
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


def _summed(sites: dict[str, SiteInfo], site: SiteInfo, term: Term, shape: tuple[int, ...], first_enum: int) -> Term:
    """The term with the indicators of the discrete latents it varies with, summed over the plates."""
    term = fresh(term)
    out, factors = list(term.out), list(term.factors)
    for latent in sites.values():
        if latent.values is not None and len(out) >= -latent.enum_dim and out[latent.enum_dim] is not None:
            factors.append(_indicator(latent, out, shape))
    coefficient, rank = term.coefficient, len(out)
    for i, axis in enumerate(out):
        if axis is None and i - rank > first_enum and shape[i] > 1:
            if EXPLICIT.get():
                out[i] = Axis(shape[i])
                factors.append(Known(np.ones(shape[i]), (out[i],)))  # type: ignore[arg-type]
            else:
                coefficient *= shape[i]
    for plate in site.plates:
        axis = out[plate.dim] if rank >= -plate.dim else None
        if axis is not None:
            axis.plate = plate.name
    return normalised(coefficient, factors, (), term.inner)


def _indicator(latent: SiteInfo, out: list[Axis | None], shape: tuple[int, ...]) -> Factor:
    """[z = value]: an atom on the enumeration axis and the latent's own plates."""
    label = out[latent.enum_dim]
    assert label is not None
    maps: list[Map] = [label]
    for i, size in enumerate(latent.shape):
        dim = i - len(latent.shape)
        if size == 1:
            maps.append(Gather(np.zeros((), int)))
            continue
        if shape[dim] != size:
            raise Opaque(f"'{latent.name}' of shape {latent.shape}, used outside its plate")
        axis = out[dim] = out[dim] or Axis(size)
        maps.append(axis)
    return Atom(latent.name, Stat("indicator"), tuple(maps))
