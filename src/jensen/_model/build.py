"""From a user's model and data to a checked, analysed `Target`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._base.errors import ModelError
from jensen._data.data_check import as_mapping, convert
from jensen._math.precision import Precision, float_type, working
from jensen._model.binding import bound
from jensen._model.missing import check_filled
from jensen._model.target import Target
from jensen._program import analysis
from jensen._program.contract import AbstractProgram
from jensen._program.programs import as_program
from jensen._program.static_arguments import Frozen
from jensen._program.structure import Structure
from jensen._program.structures import structure_of


def build(
    model: Callable[..., Any] | AbstractProgram,
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
    program = as_program(model)
    if not callable(program.fn) and program.fn is not program:
        raise ModelError(f"A model is a function or a LogDensity, not a {type(model).__name__}.")
    data = as_mapping(data)
    program.check_names(data)
    arguments = convert(data, precision)
    with working(precision):
        structure, fixed_names = structure_of(model, arguments, discrete=discrete)
        for site in structure.latents:
            if site.discrete and not discrete:
                raise ModelError(
                    f"The latent site '{site.name}' is discrete, and this method needs continuous latents.",
                    f"Site '{site.name}', support {site.support}.",
                    "Use method='bbvi'.",
                )
        arrays = {k: v for k, v in arguments.items() if k not in fixed_names}
        fixed = Frozen({k: v for k, v in arguments.items() if k in fixed_names})
        if program.traced:
            check_filled(program, structure, arrays, fixed)
        found = bound(program, structure, arrays, fixed, evaluable)
        if evaluable:
            found = jax.tree.map(lambda leaf: jax.device_put(leaf) if np.size(leaf) > 10_000 else leaf, found)
    target = Target(found, structure, precision)
    if program.starts is not None and evaluable and not any(site.discrete for site in structure.latents):
        dtype = float_type(precision)
        target.initial = target.unconstrain({k: np.asarray(v, dtype) for k, v in program.starts.items()})
    return target


def with_dependencies(target: Any) -> Structure:
    """The structure with every site's parents filled in (not needed for fitting, so found on demand)."""
    structure = target.structure
    model = target.model.handled
    if model is None:
        return structure
    with working(target.precision):
        parents = analysis.dependencies(model.fn, structure, model.data, model.fixed.value)
    sites = {name: dataclasses.replace(site, parents=parents.get(name, ())) for name, site in structure.sites.items()}
    return Structure(sites, structure.plates)
