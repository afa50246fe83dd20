"""A program bound to its data; supports whose bounds are arrays of these."""

import functools
from typing import Any

import jax

from jensen._base.errors import ModelError
from jensen._core import AbstractModel
from jensen._discrete import summed_out
from jensen._model.numpyro import NumPyroModel
from jensen._program import analysis
from jensen._program.bijection import SiteBijection
from jensen._program.contract import AbstractProgram
from jensen._program.static_arguments import Frozen
from jensen._program.structure import Structure
from jensen._program.supports import check_support


def bound(
    program: AbstractProgram, structure: Structure, arrays: dict[str, Any], fixed: Frozen, evaluable: bool
) -> AbstractModel:
    """The log joint with its data inside; of a NumPyro program with its discrete latents summed out."""
    if not program.handled:
        return program.bind(structure, arrays, fixed, evaluable)
    fn = program.fn
    bounds = array_bounds(fn, structure, arrays, fixed, evaluable)
    found = NumPyroModel(fn=fn, data=arrays, fixed=fixed, bijection=SiteBijection(structure, bounds))
    if not structure.summed:
        return found
    parents = functools.partial(analysis.dependencies, fn, structure, arrays, fixed.value)
    return summed_out(found, structure, parents, evaluable)


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
