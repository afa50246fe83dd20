"""From a user's model and data to a checked, analysed `Target`."""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import ModelError
from jensen._data.data_check import as_mapping, check_names, convert, fixings, missing, refuse_missing
from jensen._discrete import summed_out
from jensen._math.precision import Precision, float_type, working
from jensen._model.missing import check_filled
from jensen._model.numpyro import NumPyroModel
from jensen._model.target import Target
from jensen._program import analysis
from jensen._program.bijection import SiteBijection
from jensen._program.host_function import HostFunction, check_points
from jensen._program.log_density import LogDensity, LogDensityModel
from jensen._program.plain import analyse_plain
from jensen._program.static_arguments import Frozen, signature
from jensen._program.structure import Structure
from jensen._program.supports import check_support

_STRUCTURES: "weakref.WeakKeyDictionary[Any, dict[Any, Any]]" = weakref.WeakKeyDictionary()
"""Structures by program and shapes: the same object again, so that compiled programs are found again.

Under each program: signature -> names of the fixed arguments, and (signature, their content) -> structure.
"""


def build(
    model: Callable[..., Any] | LogDensity,
    data: Mapping[str, Any] | None,
    precision: Precision,
    *,
    evaluable: bool = True,
    discrete: bool = False,
) -> Target:
    """Check the data, analyse the model and bind the two.

    Array data become arguments of the compiled programs. Where the program needs concrete values (a size computed from
    an array, say), first the integer arrays and then all arrays are fixed instead. Nothing is compiled, except one
    small program when supports have array parameters; with `evaluable=False` those are left out and the target can be
    looked at but not evaluated. With `discrete=True` latents may be discrete; the model is then evaluated at values on
    the supports (`target.model.log_joint`) and has no density over R^D.
    """
    plain = isinstance(model, LogDensity)
    fn = model.fn if plain else model
    if not callable(fn):
        raise ModelError(f"A model is a function or a LogDensity, not a {type(model).__name__}.")
    data = as_mapping(data)
    check_names(fn, data, skip=1 if plain else 0)
    arguments = convert(data, precision)
    with working(precision):
        structure, fixed_names = _analyse_cached(model, fn, arguments, plain, discrete)
        arrays = {k: v for k, v in arguments.items() if k not in fixed_names}
        fixed = Frozen({k: v for k, v in arguments.items() if k in fixed_names})
        if not plain or model.differentiable:
            check_filled(model if plain else fn, structure, arrays, fixed)
        bounds = {} if plain else _array_bounds(fn, structure, arrays, fixed, evaluable)
        kind = LogDensityModel if plain else NumPyroModel
        if plain and not model.differentiable and evaluable:
            fn = HostFunction(fn, tuple(structure.latents), fixed.value)
            try:
                fn.check(check_points(structure))
            except ModelError:
                for name in missing(arguments, set()):
                    refuse_missing(arguments, name)
                raise
        bound = kind(fn=fn, data=arrays, fixed=fixed, bijection=SiteBijection(structure, bounds))
        if structure.summed and isinstance(bound, NumPyroModel):
            parents = functools.partial(analysis.dependencies, fn, structure, arrays, fixed.value)
            bound = summed_out(bound, structure, parents, evaluable)
        if evaluable:
            bound = jax.tree.map(lambda leaf: jax.device_put(leaf) if np.size(leaf) > 10_000 else leaf, bound)
    target = Target(bound, structure, precision)
    if plain and evaluable:
        target.initial = _initial(model, target)
    return target


def _initial(model: LogDensity, target: Target) -> np.ndarray | None:
    """The user's initial values, unconstrained, when every site has some."""
    values = {k: v for k, v in model.shapes_or_init.items() if not isinstance(v, (int, tuple))}
    if len(values) < len(model.shapes_or_init) or any(site.discrete for site in target.structure.latents):
        return None
    dtype = float_type(target.precision)
    return target.unconstrain({k: np.asarray(v, dtype) for k, v in values.items()})


def _analyse_cached(
    model: Any, fn: Any, arguments: dict[str, Any], plain: bool, discrete: bool
) -> tuple[Structure, frozenset[str]]:
    key = (signature(arguments), jnp.result_type(float).name, discrete)
    try:
        known = _STRUCTURES.setdefault(model, {})
    except TypeError:  # not weakly referable
        known = {}
    if key in known:
        fixed_names = known[key]
        # A size may have been computed from the fixed arrays: their content belongs to the key, not only their shape.
        content = key, Frozen({k: arguments[k] for k in fixed_names})
        if content in known:
            return known[content], fixed_names
    structure, fixed_names = _analyse(model, fn, arguments, plain, discrete)
    known[key] = fixed_names
    known[key, Frozen({k: arguments[k] for k in fixed_names})] = structure
    return structure, fixed_names


def _analyse(
    model: Any, fn: Any, arguments: dict[str, Any], plain: bool, discrete: bool
) -> tuple[Structure, frozenset[str]]:
    error: BaseException | None = None
    traced = not plain or model.differentiable
    for fixed in fixings(arguments) if traced else (set(arguments),):
        arrays = {k: v for k, v in arguments.items() if k not in fixed}
        concrete = {k: v for k, v in arguments.items() if k in fixed}
        try:
            if plain:
                structure = analyse_plain(model, arrays, concrete, discrete=discrete)
            else:
                structure = analysis.analyse(fn, arrays, concrete, discrete=discrete)
        except analysis.CONCRETE_NEEDED as needed:
            error = needed
            continue
        return structure, frozenset(fixed)
    assert error is not None
    raise analysis.blame(error, fn, arguments) from error


def _array_bounds(
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


def with_dependencies(target: Any) -> Structure:
    """The structure with every site's parents filled in (not needed for fitting, so found on demand)."""
    structure = target.structure
    if not isinstance(target.model, NumPyroModel):
        return structure
    with working(target.precision):
        parents = analysis.dependencies(target.model.fn, structure, target.model.data, target.model.fixed.value)
    sites = {name: dataclasses.replace(site, parents=parents.get(name, ())) for name, site in structure.sites.items()}
    return Structure(sites, structure.plates)
