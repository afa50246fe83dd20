"""Abstract run of a jaxpr: known values are computed, latent values follow the rules, nothing is rewritten later."""

import linecache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jensen._conjugate.algebra.arrays import is_concrete, namespace
from jensen._conjugate.algebra.primitives import RULES, apply_rule
from jensen._conjugate.algebra.terms import EXPLICIT
from jensen._conjugate.algebra.value import Opaque, Value, lift
from jensen._math.programs import needed_equations
from jensen._program.folding import NUMPY, bind, called, fold, in_numpy, walked
from jensen._program.user_code import is_user_file

LAZY = frozenset(NUMPY) | {"convert_element_type", "integer_pow", "select_n", "rsqrt", "stop_gradient", "copy"}
"""Elementwise primitives: they run on compact arrays, whose size-1 axes broadcast later."""
LABEL_ONLY = frozenset({"broadcast_in_dim", "transpose", "squeeze", "expand_dims", "reshape", "reduce_sum"})
"""Primitives whose rule keeps known arrays compact."""


def interpret(jaxpr: Any, consts: Any, arguments: list[Value], memo: dict[Any, Any] | None = None) -> list[Value]:
    """The outputs of a jaxpr as values. Equal equations on known arrays are computed once, so that equal index arrays
    are one object and are recognised as equal.
    """
    memo = {} if memo is None else memo
    live = jaxpr.replace(eqns=needed_equations(jaxpr, jaxpr.outvars))
    return walked(live, consts, arguments, lambda eqn, values: _outputs(eqn, values, memo), _constant)


def _constant(const: Any, aval: Any) -> Value:
    if isinstance(const, Value):
        return const
    return lift(const if isinstance(const, Tracer) else np.asarray(const, aval.dtype))


def _outputs(eqn: Any, values: list[Value], memo: dict[Any, Any]) -> list[Value]:
    inner = called(eqn)
    if inner is not None:
        return interpret(*inner, values, memo)
    if all(v.is_known for v in values):
        return _known_outputs(eqn, values, memo)
    shapes = [v.aval.shape for v in eqn.outvars]
    why = next((v.why for v in values if v.why is not None), None)
    if why is None:
        try:
            results = apply_rule(eqn, values)
        except Opaque as reason:
            results = [Value(shape, why=str(reason)) for shape in shapes]
        for result in results:
            if result.why is not None and ", at " not in result.why:
                result.why += source(eqn)
        return results
    return [Value(shape, why=why) for shape in shapes]


def _known_outputs(eqn: Any, values: list[Value], memo: dict[Any, Any]) -> list[Value]:
    name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
    key = (name, str(eqn.params), tuple(id(v.known) for v in values), tuple(shapes))
    if name != "iota" and key in memo:
        return memo[key][0]
    if name in LABEL_ONLY:
        outputs = [RULES[name](values, eqn.params, shapes[0])]
    else:
        arrays = [v.known for v in values] if name in LAZY else [v.full() for v in values]
        if name in LAZY:
            arrays = _aligned(arrays) if name not in NUMPY or namespace(*arrays) is jnp else arrays
        concrete = all(is_concrete(a) for a in arrays)
        if concrete and (not EXPLICIT.get() or in_numpy(eqn.primitive.name)):
            results = fold(eqn.primitive, eqn.params, arrays)
            results = [np.asarray(r, v.aval.dtype) for r, v in zip(results, eqn.outvars, strict=True)]
        else:
            results = bind(eqn.primitive, eqn.params, arrays)
        outputs = [Value(shape, known=r) for shape, r in zip(shapes, results, strict=True)]
    memo[key] = (outputs, values)  # the operands are kept alive: their ids are the key
    return outputs


def _aligned(arrays: list[Any]) -> list[Any]:
    """The arrays at their common compact shape, as primitives of equal shapes need them."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return [a if a.shape == shape else namespace(a).broadcast_to(a, shape) for a in arrays]


def source(eqn: Any) -> str:
    """`, at model.py line 12: y = ...` of the innermost frame of the user's own code; empty if there is none."""
    traceback = getattr(eqn.source_info, "traceback", None)
    for frame in getattr(traceback, "frames", ()):
        if is_user_file(frame.file_name):
            line = linecache.getline(frame.file_name, frame.line_num).strip()
            return f", at {Path(frame.file_name).name} line {frame.line_num}: {line}"
    return ""
