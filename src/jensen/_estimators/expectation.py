"""Sums over every value of a discrete factor's support, the other latents being drawn."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._core import total
from jensen._core.family import stopped
from jensen._families.native import AbstractFactor, Product
from jensen._program.dependence import Links

LogJoint = Callable[[Any], Mapping[str, Array]]


def expected_terms(
    q: Product, log_joint: LogJoint, values: Any, terms: Mapping[str, Array], sites: Mapping[str, Links]
) -> tuple[dict[str, Array], Scalar]:
    """The terms with the sites' draws replaced by expectations, and what is left as a function of value zero.

    `sites` are factors whose rows are independent given the rest: each entry of a term depends on one row at most, so
    its expectation is Σ_k q_row(k) · entry(k), differentiable in q and in the other latents. An entry that depends on
    two such sites is summed over the first; the gradient in the second comes from the remainder.
    """
    out, rest = dict(terms), jnp.zeros(())
    done: set[str] = set()
    for name, links in sites.items():
        factor = q.factors[name]
        support = factor.support()
        assert support is not None
        touched = links.touching(name)
        masses = jnp.exp(factor.log_masses()).reshape(-1, support.shape[0])

        def at(k: Array, value: Any, name: str = name, touched: list[str] = touched) -> dict[str, Array]:
            changed = log_joint({**value, name: jnp.broadcast_to(k, value[name].shape).astype(value[name].dtype)})
            return {term: changed[term] for term in touched}

        entries = jax.vmap(lambda value, at=at, ks=support: jax.vmap(lambda k: at(k, value))(ks))(values)
        for term in touched:
            index = links.rows[term][name]
            weight = jnp.moveaxis(masses[np.maximum(index, 0)], -1, 0)
            if term in done:
                change = jnp.sum((weight - stopped(weight)) * stopped(entries[term]), axis=1)
                rest = rest + jnp.mean(jnp.sum(jnp.where(index >= 0, change, 0.0).reshape(change.shape[0], -1), axis=1))
            else:
                out[term] = jnp.where(index >= 0, jnp.sum(weight * entries[term], axis=1), out[term])
                done.add(term)
    return out, rest


def surrogate_terms(q: Product, name: str, log_joint: LogJoint, values: Any, links: Links | None = None) -> Scalar:
    """Σ_rows Σ_k q_row(k) E[log p(x, z_row = k, rest)] as a function of q whose value is zero, row by row.

    With links, blocks of rows that no term joins change together: one row of each at a time.
    """
    factor: AbstractFactor = q.factors[name]
    support = factor.support()
    assert support is not None
    shape = factor.rows
    axes = links.common(name) if links is not None else ()
    apart = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    within = [1 if axis in axes else size for axis, size in enumerate(shape)]
    masses = jnp.exp(factor.log_masses())

    def energies(value: Any) -> Array:
        def at(row: Array, k: Array) -> Array:
            own = (jnp.arange(int(np.prod(within, dtype=int))) == row).reshape(within)
            moved = jnp.where(own, k.astype(value[name].dtype), value[name])
            terms = dict(log_joint({**value, name: moved}))
            if not axes or links is None:
                return total(terms).reshape(1)
            return _by_block(terms, links, name, axes, int(np.prod(apart, dtype=int)))

        rows = jnp.arange(int(np.prod(within, dtype=int)))
        table = jax.vmap(lambda row: jax.vmap(lambda k: at(row, k))(support))(rows)  # (rows of a block, K, blocks)
        placed = jnp.moveaxis(table, 1, -1).reshape(*within, *apart, -1)
        both = jnp.transpose(placed, _interleaved(len(shape))).reshape(*shape, -1)
        return both - jnp.mean(both, axis=-1, keepdims=True)

    mean = jnp.mean(jax.vmap(energies)(stopped(values)), axis=0)
    return jnp.sum((masses - stopped(masses)) * stopped(mean))


def _interleaved(count: int) -> list[int]:
    """Axis i of the one beside axis i of the other, of which one has a single entry; values last."""
    return [place for axis in range(count) for place in (axis, count + axis)] + [2 * count]


def _by_block(terms: Mapping[str, Array], links: Links, name: str, axes: tuple[int, ...], count: int) -> Array:
    """The sums over the entries that depend on each block, (count,)."""
    out = jnp.zeros(count)
    for term in links.touching(name):
        block = links.by_block(term, name, axes).reshape(-1)
        where = np.flatnonzero(block >= 0)
        out = out + jax.ops.segment_sum(jnp.ravel(terms[term])[where], jnp.asarray(block[where]), count)
    return out
