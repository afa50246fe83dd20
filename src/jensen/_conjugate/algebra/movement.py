"""Data movement: every output entry is one input entry, so only the labels of the terms change."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jensen._conjugate.algebra.arrays import compact, is_concrete, namespace
from jensen._conjugate.algebra.terms import Axis, Map, Term, fresh, gathered, substituted
from jensen._conjugate.algebra.value import Opaque, Value, add, log_of_case, on_representations, times

MAX_INDEX = 20_000_000


def relabelled(value: Value, shape: Sequence[int], order: Sequence[int | None]) -> Value:
    """Axis i of the result is axis `order[i]` of the value, or new (constant) where that is `None`."""
    if value.why is not None:
        return Value(shape, why=value.why)
    if value.is_known:
        kept = [i for i in order if i is not None]
        dropped = [i for i in range(len(value.shape)) if i not in kept]
        xp = namespace(value.known)
        array = xp.transpose(value.known, [*kept, *dropped])
        sizes = iter(array.shape[: len(kept)])
        return Value(shape, known=array.reshape([1 if i is None else next(sizes) for i in order]))

    def move(v: Value) -> list[Term]:
        return [
            Term(t.coefficient, t.factors, tuple(None if i is None else t.out[i] for i in order))
            for t in v.polynomial()
        ]

    return on_representations(value, shape, move)


def indexed(value: Value, shape: Sequence[int], positions: Sequence[Any]) -> Value:
    """out[o] = value[positions[0][o], positions[1][o], ...] for latent values.

    Each array of positions has the rank of `shape` and broadcasts to it; it may be traced.
    """

    def move(v: Value) -> list[Term]:
        terms = []
        for term in v.polynomial():
            term = fresh(term)
            out = [Axis(n) if n > 1 else None for n in shape]
            maps = {
                axis: position(positions[i], out, value.shape[i]) for i, axis in enumerate(term.out) if axis is not None
            }
            terms.append(substituted(term, maps, out))
        return terms

    return on_representations(value, shape, move)


def position(index: Any, out: Sequence[Axis | None], size: int) -> Map:
    """An index array over the axes `out` as a map: the label itself where the index just counts along one axis."""
    if is_concrete(index):
        index = compact(index)
    kept = [i for i, axis in enumerate(out) if axis is not None and index.shape[i] > 1]
    axes: tuple[Axis, ...] = tuple(out[i] for i in kept)  # type: ignore[misc]
    index = index.reshape([index.shape[i] for i in kept])
    if len(axes) == 1 and is_concrete(index) and len(index) == size and np.array_equal(index, np.arange(size)):
        return axes[0]
    return gathered(index, axes)


def moved(run: Callable[..., Any], values: Sequence[Value], shape: Sequence[int]) -> Value:
    """Any primitive that only moves data: it is run on the positions of one operand at a time, zeros elsewhere.

    `run` takes arrays for all operands; integer operands (indices) must be concrete and are passed as they are.
    """
    if np.prod(shape, dtype=float) > MAX_INDEX:
        raise Opaque(f"an indexed expression of shape {tuple(shape)}, larger than {MAX_INDEX} entries")
    indices = [v.is_known and np.issubdtype(v.known.dtype, np.integer) for v in values]
    if any(is_index and not is_concrete(v.known) for v, is_index in zip(values, indices, strict=True)):
        raise Opaque("an index computed from the data")
    pieces: list[tuple[Value, np.ndarray, np.ndarray]] = []
    for i, value in enumerate(values):
        if indices[i]:
            continue
        arguments = [
            v.full() if is_index else (1 + np.arange(v_size(v))).reshape(v.shape) if j == i else np.zeros(v.shape, int)
            for j, (v, is_index) in enumerate(zip(values, indices, strict=True))
        ]
        where = np.asarray(run(*arguments)).reshape(shape)
        if where.any():
            pieces.append((value, where > 0, np.maximum(where - 1, 0)))
    result = None
    for value, mask, flat in pieces:
        part = times(_piece(value, flat, shape), Value(shape, known=compact(mask.astype(float))))
        result = part if result is None else add(result, part)
    if result is None:
        return Value(shape, known=np.zeros((1,) * len(shape)))
    return _with_logs(result, pieces, shape)


def v_size(value: Value) -> int:
    """Number of entries."""
    return int(np.prod(value.shape, dtype=int))


def _piece(value: Value, flat: np.ndarray, shape: Sequence[int]) -> Value:
    if value.why is not None:
        return Value(shape, why=value.why)
    if value.is_known:
        xp = namespace(value.known)
        return Value(shape, known=xp.reshape(value.full(), (-1,))[flat])
    return indexed(value, shape, np.unravel_index(flat, value.shape) if value.shape else ())


def _with_logs(result: Value, pieces: Sequence[tuple[Value, np.ndarray, np.ndarray]], shape: Sequence[int]) -> Value:
    """Add the exponent where every output entry comes from an operand that has a log."""
    if result.is_known or not np.all(sum(mask.astype(int) for _, mask, _ in pieces) == 1):
        return result
    exponent = None
    for value, mask, flat in pieces:
        logs = log_of_case(value)
        if logs is None:
            return result
        part = times(_piece(logs, flat, shape), Value(shape, known=compact(mask.astype(float))))
        exponent = part if exponent is None else add(exponent, part)
    if exponent is None or exponent.why is not None:
        return result
    return Value(shape, terms=result.terms, exponent=exponent)
