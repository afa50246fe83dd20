"""Counts placed row by row where the log joint has its mass, the other latents drawn from where they start.

A factor that is narrower than the distance between two counts has no gradient towards the better one: it must begin
there.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._families.native import Product
from jensen._math.programs import Program
from jensen._model.native import NativeTarget
from jensen._program.dependence import Links

OTHERS, VALUES, QUANTILES = 16, 64, 101
"""Draws of the other latents, values of a row that are looked at side by side, and quantiles of what they weigh."""
WORK = 1_000_000_000
"""Numbers that are read at most."""


def placed_by_rows(target: NativeTarget, q: Product, seed: int) -> Product:
    """The product with every factor of counts at the optimum of its rows given the others, where rows are independent.

    Coordinate ascent for a free distribution over values: log q(z_r) = E_others[log p(x, z)] + const, first on values
    that are even on the scale of a square root, then on those next to the best.
    """
    counts = [name for name, f in q.factors.items() if f.discrete and f.support() is None and not f.event_dim]
    if not counts or target.subsample is not None or target.elements * OTHERS * VALUES > WORK:
        return q
    links = target.links({name: factor.rows for name, factor in q.factors.items()})
    for name in counts:
        if not links.separable(name):
            continue
        others = jax.vmap(q.values)(jax.random.split(jax.random.key(seed), OTHERS))
        weigh = partial(_weights, target, links, name, others)
        draws = np.asarray(jax.vmap(q.factors[name].sample)(jax.random.split(jax.random.key(seed + 1), 256)), float)
        low, high = draws.min(axis=0), 2.0 * draws.max(axis=0) + VALUES
        root = np.linspace(0.0, 1.0, VALUES).reshape(-1, *(1,) * low.ndim) * np.sqrt(high - low)
        coarse = np.floor(low + root**2)
        logs = weigh(coarse)
        if logs is None:
            continue
        best = np.take_along_axis(coarse, logs.argmax(axis=0)[None], axis=0)[0]
        step = np.arange(VALUES).reshape(-1, *(1,) * low.ndim)
        fine = np.maximum(best - VALUES // 2, low) + step
        near = weigh(fine)
        values, logs = (fine, near) if near is not None and _inside(near) else (coarse, logs)
        factors = {**q.factors, name: q.factors[name].around(_quantiles(values, logs))}
        q = Product(factors)
    return q


def _weights(
    target: NativeTarget, links: Links, name: str, others: dict[str, Any], values: np.ndarray
) -> np.ndarray | None:
    """E[log p(x, z)] of every row at each of the values (V, *rows), in nats; `None` where it is not finite anywhere."""
    rows = {term: np.maximum(found[name], 0) for term, found in links.rows.items() if name in found}
    own = {term: links.rows[term][name] >= 0 for term in rows}
    size = int(np.prod(values.shape[1:], dtype=int))

    def at(model: Any, drawn: Any, value: Any) -> Any:
        def one(other: Any) -> Any:
            terms = model.log_joint({**other, name: value})
            total = jnp.zeros(size)
            for term, index in rows.items():
                entries = jnp.where(own[term], jnp.broadcast_to(terms[term], index.shape), 0.0)
                total = total.at[index.reshape(-1)].add(entries.reshape(-1))
            return total

        return jnp.mean(jax.vmap(one)(drawn), axis=0)

    program = Program(lambda model, drawn, several: jax.lax.map(lambda v: at(model, drawn, v), several))
    found = np.asarray(program(target.model, others, values.astype(int)), float).reshape(values.shape)
    target.values += len(values) * OTHERS
    found = np.where(np.isnan(found), -np.inf, found)
    return found if np.isfinite(found.max(axis=0)).all() else None


def _inside(logs: np.ndarray) -> bool:
    """Whether the values reach to where no row has mass any more, above; below they begin at the least value."""
    return bool((logs[-1] < logs.max(axis=0) - 5.0).all())


def _quantiles(values: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Even quantiles of the distribution with these log masses at these values, those of a coarse grid by its cells."""
    widths = np.diff(values, axis=0, append=2.0 * values[-1:] - values[-2:-1])
    masses = np.exp(logs - logs.max(axis=0)) * np.maximum(widths, 1e-9)
    below = np.cumsum(masses, axis=0) / masses.sum(axis=0)
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.stack([np.take_along_axis(values, (below < u).sum(axis=0)[None], axis=0)[0] for u in levels])
