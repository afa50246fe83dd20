"""Programs that run once or twice on small arrays, equation by equation in NumPy: compiling them would take longer."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr

from jensen._math.programs import Program
from jensen._program.folding import called, fold, in_numpy, walked
from jensen._program.positions import gathered

Arrays = list[np.ndarray]
DEAR = 10_000_000
"""Entries of all arrays together from which on NumPy takes as long as a compilation."""


class BeyondNumPy(Exception):
    """An equation that is left to a compiled program."""


class HostProgram(Program):
    """A function of pytrees of arrays whose results are compared and not kept: sums are in another order than XLA's."""

    def on_host(self, *arguments: Any) -> Any:
        """The function's outputs by NumPy, or by the compiled program where that is beyond NumPy or would take longer.

        What comes after is not known, so that a program that runs often is not for it.
        """
        (_, consts, out, jaxpr), leaves = self._at(arguments)
        try:
            if _work(jaxpr) > DEAR:
                raise BeyondNumPy
            with np.errstate(all="ignore"):
                found = _run(jaxpr, consts, list(map(np.asarray, leaves)))
        except (BeyondNumPy, np.linalg.LinAlgError):
            return jax.device_get(self(*arguments))
        return jax.tree.unflatten(out, found)


def _work(jaxpr: Jaxpr) -> float:
    """Entries of all results, those of inner programs included; infinite where NumPy lacks a primitive."""
    total = 0.0
    for eqn in jaxpr.eqns:
        inner = called(eqn)
        if inner:
            total += _work(inner[0])
        elif eqn.primitive.name in _FURTHER or in_numpy(eqn.primitive.name):
            avals: list[Any] = [v.aval for v in eqn.outvars]
            total += sum(np.prod(aval.shape, dtype=float) for aval in avals)
        else:
            return np.inf
    return total


def _run(jaxpr: Jaxpr, consts: Arrays, inputs: Arrays) -> Arrays:
    def step(eqn: Any, arrays: Arrays) -> Arrays:
        inner = called(eqn)
        if inner is not None:
            found = _run(*inner, arrays)
        elif eqn.primitive.name in _FURTHER:
            found = [_FURTHER[eqn.primitive.name](*arrays, **eqn.params)]
        else:
            found = fold(eqn.primitive, eqn.params, arrays)
        return [_typed(v.aval, a) for v, a in zip(eqn.outvars, found, strict=True)]

    return walked(jaxpr, consts, inputs, step, lambda value, aval: np.asarray(value, aval.dtype))


def _typed(aval: Any, array: Any) -> np.ndarray:
    """The array as JAX has it; NumPy divides integers to floats, say."""
    array = np.asarray(array)
    if array.dtype.kind != aval.dtype.kind or array.shape != aval.shape:
        raise BeyondNumPy
    return array.astype(aval.dtype, copy=False)


def _dot_general(a: np.ndarray, b: np.ndarray, dimension_numbers: Any, **_: Any) -> np.ndarray:
    (over_a, over_b), (batch_a, batch_b) = dimension_numbers
    axes_a, axes_b = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip((*over_a, *batch_a), (*over_b, *batch_b), strict=True):
        axes_b[j] = axes_a[i]
    free_a = [axis for i, axis in enumerate(axes_a) if i not in (*over_a, *batch_a)]
    free_b = [axis for j, axis in enumerate(axes_b) if j not in (*over_b, *batch_b)]
    return np.einsum(a, axes_a, b, axes_b, [*(axes_a[i] for i in batch_a), *free_a, *free_b], optimize=True)


def _gather(operand: np.ndarray, indices: np.ndarray, dimension_numbers: Any, slice_sizes: Any, mode: Any, **_: Any):
    ends = [operand.shape[axis] - slice_sizes[axis] for axis in dimension_numbers.start_index_map]
    if "CLIP" not in str(mode) and ((indices < 0) | (indices > np.array(ends))).any():
        raise BeyondNumPy
    return operand.reshape(-1)[gathered(operand.shape, indices, dimension_numbers, slice_sizes)]


def _triangular_solve(
    a: np.ndarray, b: np.ndarray, left_side: bool, lower: bool, transpose_a: bool, unit_diagonal: bool, **_: Any
) -> np.ndarray:
    if unit_diagonal:
        raise BeyondNumPy
    half = np.tril(a) if lower else np.triu(a)
    half = np.swapaxes(half, -1, -2) if transpose_a == left_side else half
    return np.linalg.solve(half, b) if left_side else np.swapaxes(np.linalg.solve(half, np.swapaxes(b, -1, -2)), -1, -2)


_FURTHER: dict[str, Callable[..., Any]] = {
    "add_any": np.add,
    "argmax": lambda a, axes, index_dtype, **_: np.argmax(a, axes[0]).astype(index_dtype),
    "cholesky": lambda a, **_: np.linalg.cholesky(a),
    "clamp": lambda low, a, high, **_: np.minimum(np.maximum(a, low), high),
    "dot_general": _dot_general,
    "gather": _gather,
    "triangular_solve": _triangular_solve,
}
