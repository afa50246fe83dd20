"""The log of a sum of positive parts, by a latent that says which part each event came from.

    log Σ_k r_k = max_φ Σ_k φ_k (log r_k - log φ_k),        φ_k ∝ r_k,

(Jensen's inequality, tight). Under E_q the parts become exp(E[log r_k]): y ~ Poisson(Σ_k r_k) is y = Σ_k y_k with
y_k ~ Poisson(r_k), and given y the y_k are multinomial with these shares (Cemgil 2009, section 2.2; Gopalan, Hofman and
Blei 2015). The latent is a categorical one per cell that stands for y exchangeable copies. It is added to the sites of
the analysis, so that it is a block like any other; the user's model does not have it.
"""

from __future__ import annotations

import dataclasses
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np
from numpyro.distributions import constraints

from jensen._conjugate.algebra.terms import (
    Atom,
    Axis,
    Gather,
    Map,
    Stat,
    Term,
    factor_axes,
    fresh,
    gathered,
    normalised,
)
from jensen._conjugate.algebra.value import Value, log, log_of_term

if TYPE_CHECKING:
    from jensen._conjugate.algebra.trace import SiteInfo

MOST = 500
"""Parts of a sum."""
POSITIVE = (constraints.positive, constraints.unit_interval, constraints.simplex)
ADDING: ContextVar[tuple[dict[str, SiteInfo], SiteInfo] | None] = ContextVar("ADDING", default=None)
"""The sites of the analysis under way, to be added to, and the observed site whose density is being read."""


def log_of_parts(value: Value) -> Value:
    """`log`, also of a sum of positive parts; for values whose log has a weight that is never negative."""
    found, adding = log(value), ADDING.get()
    if found.why is None or value.why is not None or adding is None:
        return found
    sites, site = adding
    terms = value.polynomial()
    count = sum(int(np.prod([axis.size for axis in _inner(term)])) for term in terms)
    rank, event = len(value.shape), site.event_dim
    if site.scan is not None or rank > len(site.shape) or count > MOST or not all(_positive(t, sites) for t in terms):
        return found
    name = f"{site.name} part"
    plates = tuple(p for p in site.plates if event - p.dim <= rank and value.shape[p.dim - event] > 1)
    sites[name] = dataclasses.replace(
        site,
        name=name,
        observed=False,
        distribution="Categorical",
        support=constraints.integer_interval(0, count - 1),
        shape=value.shape,
        batch_shape=value.shape[: rank - event],
        event_dim=min(event, rank),
        plates=plates,
        masked=False,
        data_key=None,
        values=np.arange(count),
        auxiliary=True,
    )
    parts, start = [], 0
    for term in terms:
        numbers = start + np.arange(int(np.prod([axis.size for axis in _inner(term)])))
        parts += [_chosen(name, value.shape, piece, term, numbers, count) for piece in log_of_term(term)]
        start += len(numbers)
    out = tuple(Axis(n) if n > 1 else None for n in value.shape)
    parts.append(Term(1.0, (Atom(name, Stat("entropy"), _places(out)),), out))
    return Value(value.shape, terms=parts)


def _positive(term: Term, sites: dict[str, SiteInfo]) -> bool:
    """Whether a part is positive as far as its latents and its coefficient say."""
    atoms = all(a.stat.kind == "power" and _is_positive(sites[a.site]) for a in term.atoms)
    return term.coefficient > 0 and atoms


def _is_positive(site: SiteInfo) -> bool:
    return isinstance(site.base_support, tuple(type(support) for support in POSITIVE))


def _places(out: tuple[Axis | None, ...]) -> tuple[Map, ...]:
    return tuple(Gather(np.zeros((), int)) if axis is None else axis for axis in out)


def _inner(term: Term) -> tuple[Axis, ...]:
    """The labels that a term sums over, in the order in which they stand."""
    inner = term.inner
    return tuple(dict.fromkeys(axis for f in term.factors for axis in factor_axes(f) if axis in inner))


def _chosen(name: str, shape: tuple[int, ...], piece: Term, whole: Term, numbers: np.ndarray, count: int) -> Term:
    """A term of the log of some parts, times the indicators of these parts, which have `numbers` among all."""
    inner = _inner(whole)
    out = tuple(axis or (Axis(n) if n > 1 else None) for axis, n in zip(whole.out, shape, strict=True))
    if len(inner) == 1 and len(numbers) == count:
        part: Map = inner[0]
    elif len(inner) == 1:
        part = gathered(numbers, inner)
    else:
        part = Gather(numbers.reshape([axis.size for axis in inner]), inner)
    atom = Atom(name, Stat("indicator"), (part, *_places(out)))
    return fresh(normalised(piece.coefficient, [atom, *piece.factors], out, set(inner)))


__all__ = ["ADDING", "log_of_parts"]
