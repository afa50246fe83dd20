"""Variance and work of gradients: what a choice between them is made from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._bounds import ELBO
from jensen._estimators import Mixed
from jensen._families.native import AbstractFactor, Product
from jensen._math.operations import operations
from jensen._model.native import NativeTarget


def coordinates(factor: AbstractFactor) -> int:
    """Numbers in a factor."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(factor))


def cost(estimator: Mixed, target: NativeTarget, q: Product) -> float:
    """Operations of one gradient."""

    def gradient(model: Any, q: Any, batch: Any, key: Any) -> Any:
        return jax.grad(lambda q: estimator(ELBO(), model, q, batch, key))(q)

    return operations(jax.make_jaxpr(gradient)(target.step_model, q, target.batch(), jr.key(0)))


def whitened_variance(gradients: Any, factor: AbstractFactor, count: float = 1.0) -> float:
    """Σ Var(g) / F over a factor's coordinates, g as a step sees it: of rows that count once."""
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(factor.information()), strict=True)
    return float(
        sum(np.sum(np.var(np.asarray(g) / count, axis=0, ddof=1) / np.maximum(np.asarray(f), 1e-12)) for g, f in pairs)
    )


def replicates(estimators: Any, model: Any, q_all: Any, batches: Any, keys: Any) -> Any:
    """Gradients of each estimator, (replicates, ...), all from the same draws: samplers are what is slow to compile.

    `batches` are as many as there are keys, or `None`; the gradients are those in the factors of a batch.
    """

    def one(item: Any) -> Any:
        key, batch = item
        q = q_all.at(batch)

        def draw(q: Any) -> tuple[Any, Any]:
            values = estimators[0].values(q, key)
            return eqx.partition(values, eqx.is_inexact_array)

        values, pull, counts = jax.vjp(draw, q, has_aux=True)
        apart = list(dict.fromkeys(name for e in estimators for name in e.controlled(q)))
        own = estimators[0].each(q, key, apart) if apart else ()

        def bound(estimator: Any, q: Any, values: Any) -> Any:
            drawn = eqx.combine(values, counts)
            if estimator.controlled(q):
                return estimator.apart(ELBO(), model, q, batch, drawn, *own)
            return estimator.at(ELBO(), model, q, batch, drawn)

        found = [jax.grad(lambda q, v, e=e: bound(e, q, v), argnums=(0, 1))(q, values) for e in estimators]
        if not jax.tree.leaves(values):  # with counts only no gradient comes through the draws
            return tuple(direct for direct, _ in found)
        through = jax.vmap(pull)(jax.tree.map(lambda *parts: jnp.stack(parts), *(f[1] for f in found)))[0]
        return tuple(
            jax.tree.map(lambda direct, moved, i=i: direct + moved[i], f[0], through) for i, f in enumerate(found)
        )

    return jax.lax.map(one, (keys, batches), batch_size=8)


__all__ = ["coordinates", "cost", "replicates", "whitened_variance"]
