"""Single equations on known arrays, in NumPy where it can, at one step or at all steps of a loop together."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._program.folding import NUMPY, bind, fold, in_numpy
from jensen._program.indices.known import Back, Known, LaterError, union
from jensen._program.positions import flat_positions, gathered, sliced

ELEMENTWISE = frozenset(NUMPY) | {"convert_element_type", "select_n", "clamp", "integer_pow", "rsqrt"}
MOVED = frozenset(
    (
        *("broadcast_in_dim", "concatenate", "copy", "expand_dims", "pad", "reshape", "rev"),
        *("slice", "squeeze", "stack", "stop_gradient", "tile", "transpose"),
    )
)
"""Primitives whose result holds entries of their operands."""


def computed(eqn: Any, inputs: list[Known | None], steps: int | None, constants: bool = True) -> list[Known | None]:
    """The outputs of an equation; `None` for what depends on latents or is beyond this evaluation.

    Without `constants`, those that NumPy cannot compute are left out.
    """
    unknown: list[Known | None] = [None] * len(eqn.outvars)
    name = eqn.primitive.name
    if any(x is not None and x.later for x in inputs):
        return _left_out(eqn, inputs)
    if name in MOVED:
        return [_moved(eqn, inputs, steps)] if any(x is not None for x in inputs) else unknown
    known = [x for x in inputs if x is not None]
    partly = any(x.seen is not None for x in known) and name != "convert_element_type"
    if len(known) < len(inputs) or partly:
        return unknown
    try:
        if name in ELEMENTWISE:
            return [_elementwise(eqn, known)]
        if name in ("gather", "dynamic_slice"):
            return [_looked_up(eqn, known)]
        if not constants and not in_numpy(name) and not union(known):
            return _left_out(eqn, inputs)
        return _other(eqn, known, steps)
    except LaterError:
        raise
    except Exception:  # the analysis says what is wrong with a program; here it is left unknown
        return unknown


def _left_out(eqn: Any, inputs: list[Known | None]) -> list[Known | None]:
    if union(inputs):
        raise LaterError
    plain = [jnp.issubdtype(v.aval.dtype, np.number) or v.aval.dtype == bool for v in eqn.outvars]  # no random keys
    return [
        Known(np.broadcast_to(np.zeros((), v.aval.dtype), v.aval.shape), later=True) if numbers else None
        for v, numbers in zip(eqn.outvars, plain, strict=True)
    ]


def _aligned(x: Known, rank: int) -> np.ndarray:
    """The array, its own axes last, so that it broadcasts against others of this rank after the steps."""
    own = x.array.ndim - x.stepped
    return x.array.reshape(x.array.shape[0], *(1,) * (rank - own), *x.array.shape[1:]) if x.stepped else x.array


def _elementwise(eqn: Any, inputs: list[Known]) -> Known:
    name, stepped = eqn.primitive.name, any(x.stepped for x in inputs)
    out = eqn.outvars[0].aval
    arrays = [_aligned(x, len(out.shape)) for x in inputs]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    array = np.broadcast_to(_entries(eqn, [_once(a) for a in arrays]).astype(out.dtype, copy=False), shape)
    back = partial(_same_place, array.shape, inputs, arrays)
    found = Known(array, union(inputs), back=back, stepped=stepped)
    if name == "add":
        found.shifted = _shift(inputs)
    elif name == "lt" and not inputs[1].keys and not inputs[1].array.any():
        found.below = inputs[0]
    elif name == "select_n" and _counts_from_end(inputs):
        found.before = inputs[1]
    elif name == "clamp" and not inputs[0].keys | inputs[2].keys:
        found.clamped = inputs[1]
    elif name == "convert_element_type":
        found.seen = inputs[0].seen
        if array.dtype.kind in "iu":
            found.before, found.clamped = inputs[0].before, inputs[0].clamped
    return found


def _entries(eqn: Any, arrays: list[np.ndarray]) -> np.ndarray:
    name = eqn.primitive.name
    if name == "clamp":
        return np.minimum(np.maximum(arrays[1], arrays[0]), arrays[2])
    if name == "select_n":
        return _selected(*np.broadcast_arrays(*arrays))
    return arrays[0] if name == "convert_element_type" else np.asarray(fold(eqn.primitive, eqn.params, arrays)[0])


def _once(array: np.ndarray) -> np.ndarray:
    """The array with one entry along every axis on which it only repeats itself, as the state of all rows does."""
    repeats = (step == 0 and size > 0 for step, size in zip(array.strides, array.shape, strict=True))
    return array[(*(slice(1) if again else slice(None) for again in repeats), ...)]


def _selected(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    return np.where(which, cases[1], cases[0]) if len(cases) == 2 else np.choose(which.astype(int), cases)


def _same_place(shape: tuple[int, ...], inputs: list[Known], arrays: list[np.ndarray], flat: int) -> Any:
    """The entry of the operand at the same place: the first operand that comes from the data, of the chosen cases."""
    index = np.unravel_index(flat, shape) if shape else ()

    def at(array: np.ndarray) -> int:
        own = index[len(index) - array.ndim :] if array.ndim else ()
        place = tuple(0 if n == 1 else int(i) for i, n in zip(own, array.shape, strict=True))
        return int(np.ravel_multi_index(place, array.shape)) if place else 0

    pairs = list(zip(inputs, arrays, strict=True))
    if inputs[0].array.dtype == bool and len(inputs) > 2:
        pairs = [pairs[1 + int(arrays[0].flat[at(arrays[0])])], pairs[0]]
    source = next((pair for pair in pairs if pair[0].keys), pairs[0])
    return source[0], at(source[1])


def _shift(inputs: list[Known]) -> tuple[Known, int] | None:
    for x, n in (inputs, inputs[::-1]):
        if not n.keys and n.array.size and n.array.dtype.kind in "iu" and (n.array == n.array.flat[0]).all():
            return x, int(n.array.flat[0])
    return None


def _counts_from_end(inputs: list[Known]) -> bool:
    """Whether this is select(i < 0, i + n, i); NumPy has compared where i is a concrete array."""
    if len(inputs) != 3 or inputs[2].shifted is None:
        return False
    which, index = inputs[:2]
    what, count = inputs[2].shifted
    compared = which.below is index or (which.back is None and np.array_equal(which.array, index.array < 0))
    return what is index and count > 0 and compared


def _moved(eqn: Any, inputs: list[Known | None], steps: int | None) -> Known:
    """Data movement, of the array, of what it was before, and of which entries are known."""
    out, avals = eqn.outvars[0].aval, [v.aval for v in eqn.invars]
    sizes = [int(np.prod(aval.shape, dtype=int)) for aval in avals]
    starts = np.cumsum([0, *sizes])
    stepped, count = any(x is not None and x.stepped for x in inputs), steps or 0
    given = [np.zeros(a.shape, out.dtype) if x is None else x.array for x, a in zip(inputs, avals, strict=True)]

    def positions() -> np.ndarray:
        places = [flat_positions(a.shape, int(start)) for a, start in zip(avals, starts[:-1], strict=True)]
        return fold(eqn.primitive, eqn.params, places)[0]

    def moved(arrays: list[np.ndarray]) -> np.ndarray:
        if not stepped:
            return fold(eqn.primitive, eqn.params, arrays)[0]
        flat = [
            a.reshape(count, -1) if x is not None and x.stepped else np.broadcast_to(a.reshape(1, -1), (count, a.size))
            for x, a in zip(inputs, arrays, strict=True)
        ]
        joined = flat[0] if len(flat) == 1 else np.concatenate(flat, 1)
        return joined[:, positions().reshape(-1)].reshape(count, *out.shape)

    def back(flat: int) -> tuple[Known, int] | None:
        step, inner = divmod(flat, int(np.prod(out.shape, dtype=int))) if stepped else (0, flat)
        place = int(positions().flat[inner])
        number = int(np.searchsorted(starts, place, side="right")) - 1
        source = inputs[number]
        if source is None:
            return None
        return source, place - int(starts[number]) + (step * sizes[number] if source.stepped else 0)

    found = Known(moved(given), union(inputs), back=back, moved=True, stepped=stepped)
    if any(x is not None and x.before is not None for x in inputs):
        found.before = _moved(eqn, [x and (x.before or x) for x in inputs], steps)
    if any(x is not None and x.clamped is not None for x in inputs):
        found.clamped = _moved(eqn, [x and (x.clamped or x) for x in inputs], steps)
    if any(x is None or x.seen is not None for x in inputs):
        seen = [
            np.full(g.shape, x is not None) if x is None or x.seen is None else x.seen
            for x, g in zip(inputs, given, strict=True)
        ]
        found.seen = moved(seen)
    return found


def _looked_up(eqn: Any, inputs: list[Known]) -> Known:
    """`gather` and `dynamic_slice` of known entries."""
    operand, *rest = inputs
    shape, params = eqn.invars[0].aval.shape, eqn.params
    stepped, along = any(x.stepped for x in inputs), any(x.stepped for x in rest)
    if eqn.primitive.name == "gather":
        numbers = params["dimension_numbers"]
        if along:
            numbers = SimpleNamespace(
                collapsed_slice_dims=numbers.collapsed_slice_dims,
                start_index_map=numbers.start_index_map,
                operand_batching_dims=numbers.operand_batching_dims,
                start_indices_batching_dims=[d + 1 for d in numbers.start_indices_batching_dims],
                offset_dims=[d + 1 for d in numbers.offset_dims],
            )
        places = gathered(shape, rest[0].array, numbers, params["slice_sizes"])
    else:
        places = sliced(shape, [x.array for x in rest], params["slice_sizes"])
    if operand.stepped:
        count, size = len(operand.array), int(np.prod(shape, dtype=int))
        places = (places if along else places[None]) + (np.arange(count) * size).reshape(
            -1, *(1,) * len(eqn.outvars[0].aval.shape)
        )
    array = operand.array.reshape(-1)[places]
    back: Back = lambda flat: (operand, int(places.flat[flat]))  # noqa: E731
    return Known(array, union(inputs), back=back if operand.keys else None, stepped=stepped)


def _other(eqn: Any, inputs: list[Known], steps: int | None) -> list[Known | None]:
    """Whatever else there is, by JAX where NumPy lacks it."""
    stepped = any(x.stepped for x in inputs)
    if stepped:
        run = jax.vmap(
            lambda *xs: bind(eqn.primitive, eqn.params, list(xs)),
            [0 if x.stepped else None for x in inputs],
            0,
            axis_size=steps,
        )
        with jax.ensure_compile_time_eval():
            arrays = [np.asarray(out) for out in run(*(x.array for x in inputs))]
    else:
        arrays = fold(eqn.primitive, eqn.params, [x.array for x in inputs])
    kinds = [v.aval.dtype for v in eqn.outvars]
    keys = union(inputs)
    return [
        Known(np.asarray(array).astype(kind, copy=False), keys, stepped=stepped)
        for array, kind in zip(arrays, kinds, strict=True)
    ]
