"""Supports whose bounds are arrays of the data."""

from typing import Any

import jax

from jensen._errors import ModelError
from jensen.models import analysis
from jensen.models.frozen import Frozen
from jensen.models.structure import Structure
from jensen.models.supports import check_support


def array_bounds(
    fn: Any, structure: Structure, arrays: dict[str, Any], fixed: Frozen, evaluable: bool
) -> dict[str, Any]:
    """Supports with array parameters, evaluated; refuses those that depend on another latent."""
    moving = [site for site in structure.latents if not analysis.is_fixed(site.support)]
    if not moving:
        return {}
    sources = analysis.support_sources(fn, structure, arrays, fixed.value)
    for site in moving:
        if sources.get(site.name):
            others = ", ".join(f"'{name}'" for name in sources[site.name])
            raise ModelError(
                f"The support of '{site.name}' ({site.distribution}) depends on the latent {others}.",
                f"Site '{site.name}', shape {site.shape}.",
                f"Sample a fraction on a fixed support and scale it: frac = sample('{site.name}_frac', Uniform(0, 1)); "
                f"{site.name} = deterministic('{site.name}', low + (high - low) * frac), with the Jacobian as a "
                "numpyro.factor if the prior was a density on the original scale.",
            )
    if not evaluable:
        return {}
    leaves = jax.jit(lambda data: _support_leaves(fn, structure, {**data, **fixed.value}))(arrays)
    found = {s.name: jax.tree.unflatten(jax.tree.structure(s.support), jax.device_get(leaves[s.name])) for s in moving}
    for name, support in found.items():
        check_support(support, f"Site '{name}'.")
    return found


def _support_leaves(fn: Any, structure: Structure, kwargs: dict[str, Any]) -> dict[str, Any]:
    trace = analysis.feasible_trace(fn, kwargs)
    return {site.name: jax.tree.leaves(trace[site.name]["fn"].support) for site in structure.latents}
