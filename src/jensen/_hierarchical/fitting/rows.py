"""Hierarchical models row by row: what rows are told apart by, mean field first, and no row left below it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.typing import Array
from jensen._data.data_check import as_mapping, convert
from jensen._families.native import Product
from jensen._hierarchical import family as h
from jensen._hierarchical.fitting.weights import LAMBDAS
from jensen._math.keys import purpose_key, split
from jensen._math.programs import Program
from jensen._model.native import NativeTarget
from jensen._model.row_subsets import cut_along
from jensen._program.analysis import placeholders
from jensen._program.dependence import MANY, links
from jensen._program.movement_rules import merge

POINT = 1e-3
"""Sd of a row's λ, in units of the factors' information, that is mean field for every purpose."""
DRAWS, LEAST, EFFORT = 1024, 64, 2e6
"""Draws of z by which rows are compared, and at least; numbers in them where that is less."""


def row_inputs(fn: Callable[..., Any], data: Mapping[str, Any] | None, target: NativeTarget, plate: str) -> np.ndarray:
    """What the data say of each row, (rows, F): standardised, large values by their inverse hyperbolic sine."""
    cut = cut_along(fn, convert(as_mapping(data), target.precision), target, plate, discrete=True)  # type: ignore[arg-type]
    columns = []
    for name in cut.names:
        for leaf, axis in zip(jax.tree.leaves(cut.arguments[name]), cut.axes[name], strict=True):
            if axis is not None:
                columns.append(np.moveaxis(np.asarray(leaf, float), axis, 0).reshape(cut.plate.size, -1))
    table = np.concatenate(columns, axis=1)
    return np.arcsinh((table - table.mean(axis=0)) / np.maximum(table.std(axis=0), 1e-6))


def rows_of_terms(target: NativeTarget, product: Product, axes: Mapping[str, int]) -> dict[str, np.ndarray] | None:
    """Term -> for each entry the row that it belongs to, -1 for none; `None` where some entry sees several rows."""
    rows = {name: factor.rows for name, factor in product.factors.items()}
    known = links(target.model.log_joint, placeholders(target.structure), rows)
    found = {}
    for term, sites in known.rows.items():
        if sites:
            found[term] = merge(*(known.by_block(term, site, (axes[site],)) for site in sites))
            if (found[term] == MANY).any():
                return None
    return found


def back_to_mean_field(
    target: NativeTarget, q: h.Hierarchical, start: h.Hierarchical, axes: Mapping[str, int], seed: int
) -> tuple[h.Hierarchical, int]:
    """(q with the rows that gained nothing as they were at `start`, how many these are), on fresh draws.

    A row keeps its dependence where its bound is higher by more than twice the error of the difference. If rows share
    terms of the log joint it is all of them or none.
    """
    prior, width = start.prior, q.prior.layout.width
    point = h.RowPrior.start(prior.num_rows, prior.layout, POINT)
    plain = dataclasses.replace(start, prior=point, auxiliary=q.auxiliary)
    index = rows_of_terms(target, q.likelihood, axes)
    count = int(np.clip(EFFORT / (prior.num_rows * width**2), LEAST, DRAWS))
    keys = split(purpose_key(seed, "rows against mean field"), count)
    measure = Program(functools.partial(_by_row, index))
    own, other = (np.asarray(jax.device_get(measure(target.model, one, keys)), float) for one in (q, plain))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is no gain
        gain = own - other  # most draws are the same in both
        better = gain.mean(axis=0) > 2.0 * gain.std(axis=0) / np.sqrt(count)
    lost = np.flatnonzero(~better)
    if index is None and len(lost):
        lost = np.arange(prior.num_rows)
    if not len(lost):
        return q, 0
    batch = h.RowsOf(jnp.asarray(lost), tuple(axes.items()))
    return q.put(plain.at(batch), batch), len(lost)


def _by_row(index: dict[str, np.ndarray] | None, model: Any, q: h.Hierarchical, keys: Any) -> Any:
    """log p(x, z) - log q(z) of each row, (draws, rows); of all of them together without an index."""

    def one(key: Any) -> Array:
        first, second, third = jr.split(key, 3)
        point = q.mix(first).value
        value = q.given(point).values(second, pathwise=False)
        log_q, _ = q.marginal(third, value, q.log_ratio(point, value), LAMBDAS)
        terms = model.log_joint(value)
        if index is None:
            return (sum(jnp.sum(term) for term in terms.values()) - jnp.sum(log_q))[None]
        log_p = jnp.zeros(log_q.shape)
        for name, rows in index.items():
            own = jnp.ravel(jnp.asarray(jnp.where(rows >= 0, terms[name], 0.0)))
            log_p = log_p + jax.ops.segment_sum(own, np.maximum(rows, 0).ravel(), log_q.shape[0])
        return log_p - log_q

    return jax.lax.map(one, keys, batch_size=16)
