"""Sums over every value of a discrete factor's support, the other latents being drawn."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array, Scalar
from jensen.core import total
from jensen.core.family import stopped
from jensen.families.native import AbstractFactor, Product
from jensen.models.dependence import Links

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


def surrogate_terms(q: Product, name: str, log_joint: LogJoint, values: Any) -> Scalar:
    """Σ_rows Σ_k q_row(k) E[log p(x, z_row = k, rest)] as a function of q whose value is zero, row by row."""
    factor: AbstractFactor = q.factors[name]
    support = factor.support()
    assert support is not None
    rows = int(np.prod(factor.rows, dtype=int))
    masses = jnp.exp(factor.log_masses()).reshape(rows, -1)

    def energies(value: Any) -> Array:
        flat = value[name].reshape(rows)

        def at(row: Array, k: Array) -> Array:
            moved = flat.at[row].set(k.astype(flat.dtype)).reshape(value[name].shape)
            return total(dict(log_joint({**value, name: moved})))

        table = jax.vmap(lambda row: jax.vmap(lambda k: at(row, k))(support))(jnp.arange(rows))
        return table - jnp.mean(table, axis=1, keepdims=True)

    mean = jnp.mean(jax.vmap(energies)(stopped(values)), axis=0)
    return jnp.sum((masses - stopped(masses)) * stopped(mean))
