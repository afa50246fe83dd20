"""A program's structure, found once for its function and the shapes of its data."""

import weakref
from typing import Any

import jax.numpy as jnp

from jensen._data.data_check import fixings
from jensen._program.analysis import CONCRETE_NEEDED, blame
from jensen._program.programs import as_program
from jensen._program.static_arguments import Frozen, signature
from jensen._program.structure import Structure

_STRUCTURES: "weakref.WeakKeyDictionary[Any, dict[Any, Any]]" = weakref.WeakKeyDictionary()
"""Structures by program and shapes: the same object again, so that compiled programs are found again.

Under each program: signature -> names of the fixed arguments, and (signature, their content) -> structure.
"""


def structure_of(model: Any, arguments: dict[str, Any], *, discrete: bool = False) -> tuple[Structure, frozenset[str]]:
    """The structure at converted arguments, and the names of those that the program needs concretely.

    Every analysis of a model asks here, so that the program is run once for all of them. To be called at the working
    precision. With `discrete=True` discrete latents are not to be summed out.
    """
    key = (signature(arguments), jnp.result_type(float).name, discrete)
    try:
        known = _STRUCTURES.setdefault(model, {})
    except TypeError:  # not weakly referable
        known = {}
    if key in known:
        names = known[key]
        # A size may have been computed from the fixed arrays: their content belongs to the key, not only their shape.
        content = key, Frozen({k: arguments[k] for k in names})
        if content in known:
            return known[content], names
    structure, names = _found(model, arguments, discrete)
    known[key] = names
    known[key, Frozen({k: arguments[k] for k in names})] = structure
    return structure, names


def _found(model: Any, arguments: dict[str, Any], discrete: bool) -> tuple[Structure, frozenset[str]]:
    program = as_program(model)
    error: BaseException | None = None
    for fixed in fixings(arguments) if program.traced else (set(arguments),):
        arrays = {k: v for k, v in arguments.items() if k not in fixed}
        concrete = {k: v for k, v in arguments.items() if k in fixed}
        try:
            structure = program.analyse(arrays, concrete, discrete=discrete)
        except CONCRETE_NEEDED as needed:
            error = needed
            continue
        return structure, frozenset(fixed)
    assert error is not None
    raise blame(error, program.fn, arguments) from error
