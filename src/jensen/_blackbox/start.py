"""Where black-box ascent begins: factors with the prior's moments."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._ascent.counting import placed_by_rows
from jensen._families.native import AbstractFactor, Product, native_product
from jensen._model.native import NativeTarget

PRIOR_DRAWS = 200


def starting_product(target: NativeTarget, seed: int, given: Mapping[str, AbstractFactor]) -> Product:
    """One factor for each latent: the one given, or the family of its support placed by draws from the prior."""
    latents = target.structure.latents
    chosen = native_product([site for site in latents if site.name not in given], target.supports).factors
    draws = target.prior_draws(PRIOR_DRAWS, seed)
    placed = {name: factor.around(draws[name]) if name in draws else factor for name, factor in chosen.items()}
    # Factors made outside the fit may be in single precision.
    own = {name: jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), f) for name, f in given.items()}
    q = Product({site.name: own.get(site.name) or placed[site.name] for site in latents})
    return placed_by_rows(target, q, seed) if not own else q


def jittered(q: Product, seed: int, amount: float) -> Product:
    """The same product with its leaves moved at random, to break symmetries and to start elsewhere."""
    rng = np.random.default_rng(seed)

    def moved(leaf: Any) -> Any:
        return jnp.asarray(leaf + amount * rng.normal(size=jnp.shape(leaf)), leaf.dtype)

    return jax.tree.map(lambda leaf: moved(leaf) if eqx.is_inexact_array(leaf) else leaf, q)
