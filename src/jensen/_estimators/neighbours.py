"""What a draw's neighbours add to its noise, taken out by interpolating the log joint in their statistics."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._core.family import stopped
from jensen._estimators.by_row import at_entries
from jensen._families.native import AbstractFactor, Product
from jensen._program.dependence import MANY, Links

Terms: TypeAlias = Mapping[str, Array]
"""Term -> entries, (draws, *term)."""
STEEPEST = 0.1
"""Slopes in statistics of the order of one, over the root of the rounding error, that are not rounding themselves."""


def averaged(
    q: Product, terms: Callable[[Any], Terms], values: Any, links: Links, names: list[str]
) -> dict[str, dict[str, Array]]:
    """For each site j of `names`, what its draw adds to the entries of the terms beyond its mean, interpolated.

    With statistics t_j of mean zero under q_j and nodes of as many values and one more, the entry e has an interpolant
    I_e(z_j) = a_e + b_e · t_j(z_j), where a_e and b_e depend on the other latents alone. The result is b_e · t_j(z_j),
    of mean zero given all other latents, so that subtracting it from the entry leaves every gradient in another factor
    as it is. Where the log joint is linear in the statistics, as between conjugate neighbours, the difference is the
    exact expectation over z_j; elsewhere the better, the nearer the interpolant. (A control variate in the place of
    the local expectation of Titsias and Lázaro-Gredilla 2015 for supports that cannot be listed.)

    Cost: the terms at m + 1 values of each site, all rows of it together, or group by group where entries depend on one
    row of each (the even and the odd states of a chain). Entries that depend on several rows of a group are left alone.

    The factors are held constant. `terms` is the log joint of stacked values, `values` the draws (those of `names` held
    constant), `links` says who depends on whom.
    """
    found: dict[str, dict[str, Array]] = {}
    factors = {name: stopped(q.factors[name]) for name in names}
    looked = {name: factor.nodes() for name, factor in factors.items()}
    slopes = _slopes(factors, looked)
    for name in names:
        nodes = looked[name]
        weights = _weights(factors[name], slopes[name], stopped(values[name]))  # (draws, rows, nodes)

        found[name] = {}
        for members in links.groups(name):

            def at(node: Array, name: str = name, members: np.ndarray = members) -> dict[str, Array]:
                fixed = jnp.broadcast_to(node, values[name].shape).astype(values[name].dtype)
                if not members.all():  # the other rows stay as drawn
                    of_row = members.reshape(members.shape + (1,) * (fixed.ndim - 1 - members.ndim))
                    fixed = jnp.where(of_row, fixed, values[name])
                changed = terms({**values, name: fixed})
                return {term: changed[term] for term in shared_terms(links, name)}

            for term, entries in jax.vmap(at)(nodes).items():
                index = links.of_group(term, name, members)
                own = at_entries(weights, index)
                # Where a node is outside the support the entry stays as drawn; the draw of this site has no say in it.
                known = jnp.all(jnp.isfinite(entries), axis=0)
                added = jnp.sum(jnp.moveaxis(own, -1, 0) * jnp.where(known, entries, 0.0), axis=0)
                found[name][term] = found[name].get(term, 0.0) + added
    return found


def shared_terms(links: Links, name: str) -> list[str]:
    """The terms that depend on this site, by single rows of a group somewhere, and on another row or site."""

    def several(term: str) -> bool:
        return len(links.rows[term]) > 1 or bool((links.rows[term][name] == MANY).any())

    def single(term: str) -> bool:
        return any(bool((index >= 0).any()) for _, index in links.layers(term, name))

    return [term for term in links.touching(name) if several(term) and single(term)]


def neighbours(q: Product, links: Links, name: str) -> list[str]:
    """The sites whose draws can be averaged out of the terms of this one; itself where its rows are each other's."""
    return [
        other
        for other, factor in q.factors.items()
        if factor.interpolated
        and (other in links.split if other == name else True)
        and any(name in links.rows[term] for term in shared_terms(links, other))
    ]


def without(terms: Terms, found: Mapping[str, Terms], own: str | None = None) -> dict[str, Array]:
    """The terms less what their sites add, but for the one of this name."""
    out = dict(terms)
    for name, parts in found.items():
        if name != own:
            out |= {term: out[term] - part for term, part in parts.items()}
    return out


def _slopes(factors: Mapping[str, AbstractFactor], looked: Mapping[str, Array]) -> dict[str, Array]:
    """The slopes in (1, t)⁻¹ at the nodes, (rows, statistics, nodes), by site; of as many nodes all sites at once."""
    bases: dict[int, dict[str, Array]] = {}
    for name, nodes in looked.items():
        count = nodes.shape[0]
        at_nodes = jax.vmap(factors[name].statistics)(nodes).reshape(count, -1, count - 1)
        basis = jnp.concatenate([jnp.ones_like(at_nodes[..., :1]), at_nodes], axis=-1)
        bases.setdefault(count, {})[name] = jnp.moveaxis(basis, 0, -2)
    found = {}
    for several in bases.values():
        slopes = _inverse(jnp.concatenate(list(several.values())))[..., 1:, :]
        steep = jnp.max(jnp.abs(slopes), axis=(1, 2), keepdims=True)  # nodes that rounding has merged tell nothing
        slopes = jnp.where(steep < STEEPEST / np.sqrt(jnp.finfo(slopes.dtype).eps), slopes, 0.0)
        ends = np.cumsum([len(basis) for basis in several.values()])[:-1]
        found |= dict(zip(several, jnp.split(slopes, ends), strict=True))
    return found


def _weights(factor: AbstractFactor, slopes: Array, value: Array) -> Array:
    """ω (draws, rows, nodes) with Σ_k ω_k f(node_k) = b · t(z): t(z) times the slopes."""
    drawn = jax.vmap(factor.statistics)(value).reshape(value.shape[0], -1, slopes.shape[-2])
    return jnp.einsum("srm,rmk->srk", drawn, slopes)


def _inverse(matrices: Array) -> Array:
    """Of many small matrices side by side, by orthogonalising their rows, which takes any order of pivots."""
    size = matrices.shape[-1]
    rows: list[Array] = []
    made: list[Array] = []
    for i in range(size):
        left, right = matrices[..., i, :], jnp.broadcast_to(jnp.eye(size, dtype=matrices.dtype)[i], matrices.shape[:-1])
        for _ in range(2):  # twice is enough
            for row, how in zip(rows, made, strict=True):
                along = jnp.sum(left * row, axis=-1, keepdims=True)
                left, right = left - along * row, right - along * how
        length = jnp.maximum(jnp.linalg.norm(left, axis=-1, keepdims=True), jnp.finfo(matrices.dtype).tiny)
        rows.append(left / length)
        made.append(right / length)
    # M = L Q, so that Q = L⁻¹ (which is `made`) times M, and M⁻¹ = Qᵀ L⁻¹.
    return jnp.swapaxes(jnp.stack(rows, axis=-2), -1, -2) @ jnp.stack(made, axis=-2)


__all__ = ["averaged", "neighbours", "shared_terms", "without"]
