"""What each primitive of JAX does to latent values. A primitive without a rule gives an opaque value."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jensen._conjugate.algebra import value as algebra
from jensen._conjugate.algebra.arrays import is_concrete, namespace
from jensen._conjugate.algebra.movement import indexed, moved, relabelled
from jensen._conjugate.algebra.value import Opaque, Value, log_of_case, power, times, total
from jensen._program.folding import fold
from jensen._program.primitive_kinds import PLACING

Rule: TypeAlias = Callable[[list[Value], dict[str, Any], tuple[int, ...]], Value]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule (operands, parameters, output shape) -> value."""

    def register(fn: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, fn))
        return fn

    return register


RULES |= {
    "add": lambda v, p, s: v[0] + v[1],
    "add_any": lambda v, p, s: v[0] + v[1],
    "sub": lambda v, p, s: v[0] - v[1],
    "mul": lambda v, p, s: v[0] * v[1],
    "div": lambda v, p, s: v[0] / v[1],
    "neg": lambda v, p, s: -v[0],
    "integer_pow": lambda v, p, s: power(v[0], p["y"]),
    "square": lambda v, p, s: power(v[0], 2.0),
    "sqrt": lambda v, p, s: power(v[0], 0.5),
    "rsqrt": lambda v, p, s: power(v[0], -0.5),
    "log": lambda v, p, s: algebra.log(v[0]),
    "log1p": lambda v, p, s: algebra.log(1.0 + v[0]),
    "exp": lambda v, p, s: algebra.exp(v[0]),
    "convert_element_type": lambda v, p, s: v[0],
    "stop_gradient": lambda v, p, s: v[0],
    "copy": lambda v, p, s: v[0],
    "reduce_sum": lambda v, p, s: total(v[0], p["axes"]),
    "reduce_prod": lambda v, p, s: algebra.exp(total(algebra.log(v[0]), p["axes"])),
    "transpose": lambda v, p, s: relabelled(v[0], s, p["permutation"]),
    "squeeze": lambda v, p, s: relabelled(v[0], s, [i for i in range(len(v[0].shape)) if i not in p["dimensions"]]),
}


@rule("pow")
def _pow(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    base, exponent = values
    if exponent.is_known and is_concrete(exponent.known) and exponent.known.size == 1:
        return algebra.ranked(power(base, float(exponent.known.reshape(()))), shape)
    return algebra.exp(times(algebra.log(base), exponent))


@rule("broadcast_in_dim")
def _broadcast(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    order: list[int | None] = [None] * len(shape)
    for i, axis in enumerate(params["broadcast_dimensions"]):
        order[axis] = i
    return relabelled(values[0], shape, order)


@rule("expand_dims")
def _expand_dims(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    old = iter(range(len(values[0].shape)))
    return relabelled(values[0], shape, [None if i in params["dimensions"] else next(old) for i in range(len(shape))])


@rule("reshape")
def _reshape(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    value = values[0]
    long = [i for i, n in enumerate(value.shape) if n != 1]
    if [value.shape[i] for i in long] == [n for n in shape if n != 1]:
        old = iter(long)
        return relabelled(value, shape, [None if n == 1 else next(old) for n in shape])
    if value.is_known:
        return Value(shape, known=value.full().reshape(shape))
    return moved(lambda a: a.reshape(shape), values, shape)


@rule("cumsum")
def _cumsum(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    """Σ_j [j ≤ i] v_j, with the triangular matrix as a known factor."""
    axis, rank = params["axis"], len(shape)
    steps = np.tri(shape[axis]).T if params["reverse"] else np.tri(shape[axis])
    order: list[int | None] = [*range(axis), None, *range(axis, rank)]
    wide = relabelled(values[0], (*shape[:axis], shape[axis], *shape[axis:]), order)
    matrix = steps.reshape([shape[axis] if i in (axis, axis + 1) else 1 for i in range(rank + 1)])
    return total(times(wide, Value(wide.shape, known=matrix)), [axis + 1])


@rule("cumprod")
def _cumprod(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    return algebra.exp(_cumsum([algebra.log(values[0])], params, shape))


@rule("select_n")
def _select(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    """Σ_i [which = i] case_i; with its exponent too where every case has a log."""
    which, *cases = values
    if not which.is_known:
        raise Opaque("a choice that depends on a continuous latent")
    masks = [Value(which.shape, known=(which.known == i) * 1.0) for i in range(len(cases))]
    parts = [times(mask, _finite(case, mask)) for mask, case in zip(masks, cases, strict=True)]
    result = sum(parts[1:], start=parts[0])
    logs = [log_of_case(case) for case in cases]
    if result.why is not None or result.is_known or any(log is None for log in logs):
        return result
    exponents = [times(mask, log) for mask, log in zip(masks, logs, strict=True)]  # type: ignore[arg-type]
    exponent = sum(exponents[1:], start=exponents[0])
    return result if exponent.why is not None else Value(shape, terms=result.terms, exponent=exponent)


def _finite(case: Value, mask: Value) -> Value:
    """A known case with zeros where it is not chosen: 0 · inf would otherwise be NaN."""
    if not case.is_known:
        return case
    xp = namespace(case.known, mask.known)
    rank = max(len(case.shape), len(mask.shape))
    chosen = mask.known.reshape((1,) * (rank - mask.known.ndim) + mask.known.shape)
    return Value(np.broadcast_shapes(case.shape, mask.shape), known=xp.where(chosen > 0, case.known, 0.0))


@rule("dot_general")
def _dot(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    """The two operands aligned on (batch, left, right, contracted) axes, multiplied and summed."""
    (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
    left, right = values
    left_free = [i for i in range(len(left.shape)) if i not in (*left_sum, *left_batch)]
    right_free = [i for i in range(len(right.shape)) if i not in (*right_sum, *right_batch)]
    wide = (*shape, *(left.shape[i] for i in left_sum))
    a = relabelled(left, wide, [*left_batch, *left_free, *([None] * len(right_free)), *left_sum])
    b = relabelled(right, wide, [*right_batch, *([None] * len(left_free)), *right_free, *right_sum])
    return total(times(a, b), range(len(shape), len(wide)))


@rule("gather")
def _gather(values: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
    """Positions along every operand axis: a start from the index array plus an offset inside the slice."""
    operand, starts = values
    if not starts.is_known:
        raise Opaque("an index that depends on a continuous latent")
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    rank, xp = len(shape), namespace(starts.known)
    batch = [i for i in range(rank) if i not in numbers.offset_dims]
    window = [
        i
        for i in range(len(operand.shape))
        if i not in numbers.collapsed_slice_dims and i not in numbers.operand_batching_dims
    ]
    full = xp.broadcast_to(starts.known, (*starts.known.shape[:-1], starts.shape[-1]))
    positions = []
    for axis in range(len(operand.shape)):
        place: Any = np.zeros((1,) * rank, int)
        if axis in numbers.operand_batching_dims:
            along = numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
            place = _along(np.arange(operand.shape[axis]), batch[along], rank)
        elif axis in numbers.start_index_map:
            start = full[..., numbers.start_index_map.index(axis)]
            start = xp.clip(start, 0, operand.shape[axis] - sizes[axis])
            place = start.reshape([start.shape[batch.index(i)] if i in batch else 1 for i in range(rank)])
        if axis in window:
            place = place + _along(np.arange(sizes[axis]), numbers.offset_dims[window.index(axis)], rank)
        positions.append(place)
    return indexed(operand, shape, positions)


def _along(array: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return array.reshape([-1 if i == axis else 1 for i in range(rank)])


def apply_rule(eqn: Any, values: list[Value]) -> list[Value]:
    """The outputs of an equation with at least one latent operand."""
    name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
    if name in RULES:
        return [RULES[name](values, eqn.params, shapes[0])]
    if name not in PLACING:
        raise Opaque(f"'{name}' applied to [{'; '.join(algebra.describe(v) for v in values if not v.is_known)}]")

    def run(output: int) -> Callable[..., Any]:
        return lambda *arrays: fold(eqn.primitive, eqn.params, list(arrays))[output]

    return [moved(run(i), values, shape) for i, shape in enumerate(shapes)]
