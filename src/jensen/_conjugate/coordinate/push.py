"""A small random push of factors that know none of their own, to see whether a stationary point is a maximum."""

from typing import Any

import jax
import jax.numpy as jnp

from jensen._conjugate.algebra import ConjugateModel, Moments, Naturals
from jensen._conjugate.coordinate.starts import PUSH

WIDE = 0.1
"""The power of a factor that a push is drawn from."""


def drawn(model: ConjugateModel, order: tuple[str, ...], moments: Moments, naturals: Naturals, seed: Any) -> Moments:
    """(1 - ε) E[t] + ε t(z) with z from the factor at a low power, for blocks without a push of their own (`nearby`).

    Mean parameters are a convex set that holds t(z) of every z, so the mixture stays inside. Gammas, betas and
    Dirichlets leave a symmetric saddle by it.
    """
    mixed = {}
    for i, name in enumerate(order):
        block = model.blocks[name]
        if block.nearby is not None or block.point:
            continue
        wide = model.factor(name, jax.tree.map(lambda a: WIDE * a, naturals[name]))
        there = wide.statistics(*wide.draw(jax.random.fold_in(jax.random.key(seed), i)))
        finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(there)])
        ok = jnp.all(wide.contains()) & jnp.all(finite)
        mixed[name] = jax.tree.map(
            lambda a, b, ok=ok: jnp.where(ok, (1.0 - PUSH) * a + PUSH * b, a), moments[name], there
        )
    return mixed
