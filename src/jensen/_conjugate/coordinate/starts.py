"""Starting points and small pushes. Everything random comes from the generator given."""

from collections.abc import Container, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import OptionError, nearest
from jensen._conjugate.algebra import ConjugateModel, Moments
from jensen._data.columns import as_array

PUSH = 0.1


def random_start(
    model: ConjugateModel,
    rng: np.random.Generator,
    seeds: bool,
    rows: Mapping[str, int] | None = None,
    only: Container[str] | None = None,
) -> Moments:
    """Random moments for every block, or for some `only`; `rows` gives those whose first axis is cut to so many rows.

    Responsibilities of a discrete site in a plate are those of a few `seeds` (one random row for each value, no weight
    on the others), or of a flat Dirichlet draw.
    """
    moments = {}
    for name, block in model.blocks.items():
        if only is not None and name not in only:
            continue
        shape = model.sites[block.sites[0]].shape
        if rows and name in rows:
            shape = (rows[name], *shape[1:])
        moments[name] = block.start(rng, shape)
        if block.discrete and seeds:
            moments[name] = {k: v if k in ("copies", "pair") else _seeded(v, rng) for k, v in moments[name].items()}
    return _on_device(moments)


def _seeded(responsibilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, values = int(np.prod(responsibilities.shape[:-1])), responsibilities.shape[-1]
    if rows < 2 * values:
        return responsibilities
    flat = np.zeros((rows, values))
    flat[rng.choice(rows, values, replace=False), np.arange(values)] = 1.0
    return flat.reshape(responsibilities.shape)


def _on_device(moments: dict[str, dict[str, np.ndarray]]) -> Moments:
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(float)), moments)


def given_start(
    model: ConjugateModel, rng: np.random.Generator, init: Mapping[str, Any], rows: Mapping[str, int] | None = None
) -> Moments:
    """The moments of a q concentrated at the given values; the other blocks start at random."""
    check_values(model, init)
    moments = random_start(model, rng, False, rows)
    for name, block in model.blocks.items():
        if block.sites[0] in init:
            values = [np.asarray(init[s]) if block.discrete else np.asarray(init[s], float) for s in block.sites]
            moments[name] = _on_device({name: block.at(*values)})[name]
    return moments


def check_values(model: ConjugateModel, init: Mapping[str, Any]) -> None:
    """Raise unless `init` gives all sites of a block or none, in their shapes."""
    latents = model.layout.owner
    for site in init:
        if site not in latents:
            raise OptionError(f"init names '{site}', which is no latent site.", remedy=nearest(site, latents))
    for name, block in model.blocks.items():
        given, missing = [s for s in block.sites if s in init], [s for s in block.sites if s not in init]
        if given and missing:
            raise OptionError(
                f"init gives '{given[0]}' but not '{missing[0]}', which share the block '{name}'.",
                remedy="Give all sites of a block, or none.",
            )
        for site in given:
            value = as_array(f"init['{site}']", init[site])
            found, shape = np.shape(value), model.sites[site].shape
            if not np.isfinite(value).all() or not np.all(np.asarray(model.sites[site].support(value))):
                raise OptionError(
                    f"init gives '{site}' values that are not finite or outside its support.",
                    f"Option: init. Support: {model.sites[site].support}.",
                    "Start inside the support.",
                )
            if found != shape:
                raise OptionError(
                    f"init has shape {found} for '{site}', whose shape is {shape}.",
                    remedy="Give one starting value for each entry of the site.",
                )


def perturbed(model: ConjugateModel, moments: Moments, rng: np.random.Generator) -> Moments:
    """(1 - ε) E[t] + ε t(z) with z drawn near q: mean parameters are a convex set, so this stays inside the domain."""
    moments = dict(moments)
    for name in moments:
        block = model.blocks[name]
        if block.nearby is not None:
            here = jax.tree.map(np.asarray, moments[name])
            there = block.nearby(rng, here)
            mixed = {k: (1.0 - PUSH) * here[k] + PUSH * there[k] for k in here}
            moments[name] = _on_device({name: mixed})[name]
    return moments
