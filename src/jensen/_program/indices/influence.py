"""Whether an entry that lies outside matters at all: a masked row may hold any index."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jensen._program.folding import bind, called, walked
from jensen._program.indices.judge import Outside

TRIED = 4
"""Other entries that are looked up in the place of those outside."""


def matters(program: ClosedJaxpr, arguments: list[Any], found: Outside) -> bool:
    """Whether the outputs of a program change where entries of an index outside the axis are replaced by others inside.

    The latents are those of the arguments; a row that a mask or `where` leaves out changes nothing.
    """
    lookup = found.lookup
    if lookup.path is None or found.limit == 0:
        return True

    def run(index: Any, values: list[Any]) -> Any:
        return _evaluated(program.jaxpr, program.consts, values, lookup.path, lookup.operand, index)

    index, rng = lookup.index.array, np.random.default_rng(0)
    compiled, first = jax.jit(run), None
    for trial in range(TRIED):
        choices = {0: np.zeros(found.bad.shape, int), 1: np.full(found.bad.shape, found.limit)}
        inside = choices.get(trial, rng.integers(0, found.limit + 1, found.bad.shape))
        entries = index.copy()
        if found.bad.shape == index.shape:
            entries[found.bad] = inside[found.bad]
        else:
            entries[..., found.column][found.bad] = inside[found.bad]
        outputs = [np.asarray(out) for out in jax.device_get(compiled(entries, arguments))]
        if first is None and not all(np.isfinite(out).all() for out in outputs if out.dtype.kind == "f"):
            return True  # such as the density of a value outside the support, whatever is looked up for it
        first = outputs if first is None else first
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, outputs, strict=True)):
            return True
    return False


def _evaluated(jaxpr: Any, consts: Any, args: Any, path: Any, operand: int, index: Any) -> list[Any]:
    """The outputs of a program in which one operand of the equation at the end of `path` is another."""

    def step(eqn: Any, inputs: list[Any]) -> list[Any]:
        if eqn is path[0] and len(path) > 1:
            inner = called(eqn)
            assert inner is not None
            return _evaluated(*inner, inputs, path[1:], operand, index)
        if eqn is path[0]:
            inputs[operand] = index
        return bind(eqn.primitive, eqn.params, inputs)

    def constant(value: Any, aval: Any) -> Any:
        return jnp.asarray(value, getattr(aval, "dtype", None))

    return walked(jaxpr, consts, args, step, constant)
