"""Starting points and small pushes. Everything random comes from the key."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import OptionError, nearest
from jensen._typing import PRNGKey
from jensen.algorithms.coordinate.ascent import State
from jensen.families.exponential import Natural
from jensen.models.conjugacy import ConjugateModel, Moments

PUSH = 0.1


def random_start(model: ConjugateModel, key: PRNGKey, seeds: bool) -> Moments:
    """Random moments for every block.

    Responsibilities of a discrete site in a plate are those of a few `seeds` (one random row for each value, no weight
    on the others), or of a flat Dirichlet draw.
    """
    moments = {}
    for i, (name, block) in enumerate(model.blocks.items()):
        block_key = jax.random.fold_in(key, i)
        moments[name] = block.start(block_key)
        if block.discrete and seeds:
            moments[name] = {k: _seeded(v, block_key) for k, v in moments[name].items()}
    return moments


def _seeded(responsibilities: Any, key: PRNGKey) -> Any:
    rows, values = int(np.prod(responsibilities.shape[:-1])), responsibilities.shape[-1]
    if rows < 2 * values:
        return responsibilities
    chosen = jax.random.choice(key, rows, (values,), replace=False)
    flat = jnp.zeros((rows, values)).at[chosen, jnp.arange(values)].set(1.0)
    return flat.reshape(responsibilities.shape)


def given_start(model: ConjugateModel, key: PRNGKey, init: Mapping[str, Any]) -> Moments:
    """The moments of a q concentrated at the given values; the other blocks start at random."""
    latents = model.layout.owner
    for site in init:
        if site not in latents:
            raise OptionError(f"init names '{site}', which is no latent site.", remedy=nearest(site, latents))
    moments = random_start(model, key, seeds=False)
    for name, block in model.blocks.items():
        given = [s for s in block.sites if s in init]
        if not given:
            continue
        missing = [s for s in block.sites if s not in init]
        if missing:
            raise OptionError(
                f"init gives '{given[0]}' but not '{missing[0]}', which share the block '{name}'.",
                remedy="Give all sites of a block, or none.",
            )
        values = []
        for site in block.sites:
            value, shape = jnp.asarray(init[site]), model.sites[site].shape
            if value.shape != shape:
                raise OptionError(
                    f"init has shape {value.shape} for '{site}', whose shape is {shape}.",
                    remedy="Give one starting value for each entry of the site.",
                )
            values.append(value if block.discrete else value.astype(jnp.result_type(float)))
        moments[name] = block.at(*values)
    return moments


def perturbed(model: ConjugateModel, state: State, key: PRNGKey) -> Moments:
    """(1 - ε) E[t] + ε t(z) with z ~ q: mean parameters are a convex set, so this stays inside the domain."""
    moments: Moments = {}
    for i, name in enumerate(model.blocks):
        factor = model.factor(name, state.naturals[name])
        statistics = factor.statistics(*factor.draw(jax.random.fold_in(key, i)))
        moments[name] = _mixed(state.moments[name], statistics)
    return moments


def _mixed(moments: Natural, statistics: Natural) -> Natural:
    return jax.tree.map(lambda m, t: jnp.where(jnp.isfinite(t), (1.0 - PUSH) * m + PUSH * t, m), moments, statistics)
