"""Primitives on concrete arrays, in NumPy: folding them eagerly in JAX would compile a program for each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from scipy.special import digamma, erf, erfc, expit, gammaln

from jensen._program.primitive_kinds import LOOPS


def _dynamic_slice(operand: np.ndarray, *starts: np.ndarray, slice_sizes: tuple[int, ...], **_: Any) -> np.ndarray:
    first = [int(np.clip(int(s), 0, n - size)) for s, n, size in zip(starts, operand.shape, slice_sizes, strict=True)]
    return operand[tuple(slice(a, a + n) for a, n in zip(first, slice_sizes, strict=True))]


def _dynamic_update_slice(operand: np.ndarray, update: np.ndarray, *starts: np.ndarray, **_: Any) -> np.ndarray:
    first = [int(np.clip(int(s), 0, n - m)) for s, n, m in zip(starts, operand.shape, update.shape, strict=True)]
    result = operand.copy()
    result[tuple(slice(a, a + n) for a, n in zip(first, update.shape, strict=True))] = update
    return result


def _pad(operand: np.ndarray, value: np.ndarray, padding_config: Any, **_: Any) -> np.ndarray:
    if any(low < 0 or high < 0 or inner for low, high, inner in padding_config):
        raise ValueError("NumPy pads neither inside nor by negative amounts; JAX does")
    return np.pad(operand, [(int(low), int(high)) for low, high, _ in padding_config], constant_values=value[()])


def _slice(operand: np.ndarray, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> np.ndarray:
    steps = strides or (1,) * operand.ndim
    return operand[tuple(slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, steps, strict=True))]


def _broadcast(operand: np.ndarray, shape: Any, broadcast_dimensions: Any, **_: Any) -> np.ndarray:
    sizes = [1] * len(shape)
    for i, axis in enumerate(broadcast_dimensions):
        sizes[axis] = operand.shape[i]
    return np.broadcast_to(operand.reshape(sizes), shape)


def _iota(*, shape: Any, dimension: int, dtype: Any, **_: Any) -> np.ndarray:
    sizes = [n if i == dimension else 1 for i, n in enumerate(shape)]
    return np.broadcast_to(np.arange(shape[dimension], dtype=dtype).reshape(sizes), shape)


def _rem(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.fmod(a, b)


NUMPY: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "and": np.bitwise_and, "ceil": np.ceil, "cos": np.cos, "div": np.divide,
    "eq": np.equal, "exp": np.exp, "floor": np.floor, "ge": np.greater_equal, "gt": np.greater, "le": np.less_equal,
    "log": np.log, "log1p": np.log1p, "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply,
    "ne": np.not_equal, "neg": np.negative, "not": np.invert, "or": np.bitwise_or, "pow": np.power, "rem": _rem,
    "sign": np.sign, "sin": np.sin, "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tanh": np.tanh,
    "digamma": digamma, "erf": erf, "erfc": erfc, "lgamma": gammaln, "logistic": expit,
    "expm1": np.expm1, "is_finite": np.isfinite, "xor": np.bitwise_xor,
}  # fmt: skip
"""Elementwise primitives without parameters that matter; they broadcast, so compact arrays stay compact."""

STRUCTURAL: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda *a, dimension, **_: np.concatenate(a, dimension),
    "convert_element_type": lambda a, new_dtype, **_: a.astype(new_dtype),
    "copy": lambda a, **_: a,
    "cumprod": lambda a, axis, reverse, **_: _cumulative(np.cumprod, a, axis, reverse),
    "cumsum": lambda a, axis, reverse, **_: _cumulative(np.cumsum, a, axis, reverse),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "expand_dims": lambda a, dimensions, **_: np.expand_dims(a, dimensions),
    "integer_pow": lambda a, y, **_: a**y,
    "iota": _iota,
    "pad": _pad,
    "reduce_max": lambda a, axes, **_: a.max(tuple(axes)),
    "reduce_min": lambda a, axes, **_: a.min(tuple(axes)),
    "reduce_prod": lambda a, axes, **_: a.prod(tuple(axes)),
    "reduce_sum": lambda a, axes, **_: a.sum(tuple(axes)),
    "reduce_and": lambda a, axes, **_: a.all(tuple(axes)),
    "reduce_or": lambda a, axes, **_: a.any(tuple(axes)),
    "reshape": lambda a, new_sizes, **_: a.reshape(new_sizes),
    "rev": lambda a, dimensions, **_: np.flip(a, tuple(dimensions)),
    "rsqrt": lambda a, **_: 1.0 / np.sqrt(a),
    "select_n": lambda which, *cases, **_: np.choose(which.astype(int), cases) if len(cases) < 32 else None,
    "slice": _slice,
    "squeeze": lambda a, dimensions, **_: np.squeeze(a, tuple(dimensions)),
    "stack": lambda *a, axis, **_: np.stack(a, axis),
    "stop_gradient": lambda a, **_: a,
    "tile": lambda a, reps, **_: np.tile(a, reps),
    "transpose": lambda a, permutation, **_: np.transpose(a, permutation),
}


def _cumulative(fn: Callable[..., Any], a: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    return np.flip(fn(np.flip(a, axis), axis), axis) if reverse else fn(a, axis)


def in_numpy(name: str) -> bool:
    """Whether a primitive folds without JAX, which would compile it."""
    return name in NUMPY or name in STRUCTURAL


def fold(primitive: Any, params: dict[str, Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The primitive's outputs on concrete arrays."""
    fn = NUMPY.get(primitive.name) or STRUCTURAL.get(primitive.name)
    if fn is not None and not any(a.dtype == bool and primitive.name in ("add", "mul", "sub") for a in arrays):
        try:
            with np.errstate(all="ignore"):
                return [fn(*arrays) if primitive.name in NUMPY else fn(*arrays, **params)]
        except (TypeError, ValueError):
            pass  # beyond NumPy: JAX folds it
    return _eagerly(primitive, params, arrays)


def _eagerly(primitive: Any, params: dict[str, Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """In JAX, for the primitives that NumPy lacks (scatter, sort, gamma functions, ...)."""
    with jax.ensure_compile_time_eval():
        return [np.asarray(out) for out in bind(primitive, params, [jax.numpy.asarray(a) for a in arrays])]


def evaluated(primitive: Any, params: dict[str, Any], values: list[Any]) -> list[Any]:
    """The primitive's outputs: in NumPy where it can be, in JAX where values are keys or are being traced."""
    arrays = all(not isinstance(v, Tracer) and hasattr(v, "dtype") and v.dtype.kind in "biuf" for v in values)
    if not arrays or not in_numpy(primitive.name):
        return bind(primitive, params, values)
    return fold(primitive, params, [np.asarray(v) for v in values])


def bind(primitive: Any, params: dict[str, Any], arrays: list[Any]) -> list[Any]:
    """The primitive's outputs in JAX, as a list."""
    bound = primitive.get_bind_params(params)
    functions, bound = bound if isinstance(bound, tuple) else ((), bound)
    out = primitive.bind(*functions, *arrays, **bound)
    return list(out) if primitive.multiple_results else [out]


def walked(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    step: Callable[[Any, list[Any]], Sequence[Any]],
    constant: Callable[[Any, Any], Any] = lambda value, aval: value,
) -> list[Any]:
    """A program's outputs in another reading of it, equation by equation.

    Args:
        jaxpr: the program.
        consts: values of its constants.
        inputs: what stands for its arguments.
        step: (equation, what stands for its operands) -> what stands for its results.
        constant: (value, its abstract value) -> what stands for a constant.
    """
    known: dict[Any, Any] = {v: constant(c, v.aval) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val, atom.aval) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, step(eqn, [read(v) for v in eqn.invars]), strict=True))
    return [read(v) for v in jaxpr.outvars]


def sources_of(jaxpr: Jaxpr) -> list[frozenset[int]]:
    """For every output, the inputs that it depends on; a program inside an equation counts as a whole."""
    nothing: frozenset[int] = frozenset()
    inputs = [frozenset([i]) for i in range(len(jaxpr.invars))]
    constants = [None] * len(jaxpr.constvars)
    return walked(
        jaxpr, constants, inputs, lambda eqn, given: [nothing.union(*given)] * len(eqn.outvars), lambda *_: nothing
    )


def scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
    """(constants, states) among the operands of a scan; its sequences follow. JAX 0.11.2 writes them down in a tree."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    operands = range(len(params["jaxpr"].jaxpr.invars))
    consts, states, _ = (list(part) for part in params["ft_in"].update(operands).unpack())
    return len(consts), len(states)


def called(eqn: Any) -> tuple[Jaxpr, list[Any]] | None:
    """(program, constants) of an equation that only runs a program on its operands."""
    if eqn.primitive.name in LOOPS:
        return None
    inner: Any = next((eqn.params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in eqn.params), None)
    consts = list(inner.consts) if isinstance(inner, ClosedJaxpr) else []
    jaxpr: Any = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    same = isinstance(jaxpr, Jaxpr) and len(jaxpr.invars) == len(eqn.invars) and len(jaxpr.constvars) == len(consts)
    return (jaxpr, consts) if same and len(jaxpr.outvars) == len(eqn.outvars) else None
