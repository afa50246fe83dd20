"""Whether an entry that lies outside matters at all: a masked row may hold any index."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jensen._program.folding import bind, called
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
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return jnp.asarray(atom.val, getattr(atom.aval, "dtype", None)) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(v) for v in eqn.invars]
        if eqn is not path[0]:
            out = bind(eqn.primitive, eqn.params, inputs)
        elif len(path) > 1:
            inner = called(eqn)
            assert inner is not None
            out = _evaluated(*inner, inputs, path[1:], operand, index)
        else:
            inputs[operand] = index
            out = bind(eqn.primitive, eqn.params, inputs)
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]
