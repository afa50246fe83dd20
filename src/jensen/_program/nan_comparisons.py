"""NaN that a program takes for numbers: a comparison with NaN is false, a cast to integers 0, a sort puts it last.

The log density is then a number, and silently that of other data. Where a program fills or leaves out what is missing,
it tests for NaN first; all else it computes is the same whatever stands in the place of the NaN. The program is
therefore evaluated with numbers there, in all but the tests.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jensen._data.data_check import Place, refuse_missing
from jensen._program.folding import bind, called, scan_sizes, walked
from jensen._program.nan_filling import Filled
from jensen._program.primitive_kinds import LOOPS

FAR = 1e8
"""A number beyond any threshold, and its opposite; entries of the array itself are the third trial."""

ORDERED = frozenset(["searchsorted"])
"""Functions of JAX's that test for NaN themselves in order to put it last, as a sort does."""


def refuse_compared(
    closed: ClosedJaxpr, arrays: dict[str, Any], point: Any, names: Sequence[str], place: Place | None = None
) -> None:
    """Raise for NaN in one of these arrays where the outputs of a program are other with numbers in their place.

    The program's inputs are `arrays` and then `point`, which has an axis of points in front.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arrays)]
    keys = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    leaves, points = jax.tree.leaves(arrays), jax.tree.leaves(point)
    chosen = [i for i, key in enumerate(keys) if key in names]
    if not chosen:
        return

    def run(given: list[Any], filled: Any, which: int, at: list[Any]) -> Any:
        others = [*given[:which], filled, *given[which + 1 :], *at]
        return paired(closed.jaxpr, closed.consts, [*given, *at], others)

    compiled = jax.jit(jax.vmap(run, (None, None, None, 0)), static_argnums=2)
    for which in chosen:
        for filled in _fills(np.asarray(leaves[which])):
            ones, others = jax.device_get(compiled(leaves, filled, which, points))
            if not all(_same(a, b) for a, b in zip(ones, others, strict=True)):
                refuse_missing(arrays, keys[which], place, compared=True)


def refuse_taken(
    trace: Callable[[dict[str, Any]], ClosedJaxpr], fixed: dict[str, Any], inputs: Sequence[Any], names: Sequence[str],
    place: Place | None = None,
) -> None:  # fmt: skip
    """The same for arrays that a program needs concretely, `fixed`; `trace` is the program traced with them.

    `inputs` are its inputs, with an axis of points in front. A program whose use of an array cannot be followed is let
    pass.
    """
    for name in (name for name in names if isinstance(fixed.get(name), np.ndarray)):
        array = np.asarray(fixed[name])
        for held in _fills(array):
            try:
                one, other = (trace({**fixed, name: Filled(array, a)}) for a in (array, held))
            except Exception:  # it takes the entries out, or minds what kind of array they are in
                break
            if not _alike(one, other, inputs):
                refuse_missing(fixed, name, place, compared=True)


def _alike(one: ClosedJaxpr, other: ClosedJaxpr, inputs: Sequence[Any]) -> bool:
    """Whether two traces of a program give the same."""
    ones, others = (jax.device_get(jax.jit(jax.vmap(jaxpr_as_fun(trace)))(*inputs)) for trace in (one, other))
    return all(_same(a, b) for a, b in zip(ones, others, strict=True))


def _fills(values: np.ndarray) -> Iterator[np.ndarray]:
    """The array with numbers in the place of NaN: three trials."""
    hole, rng = np.isnan(values), np.random.default_rng(0)
    known = values[~hole] if not hole.all() else np.zeros(1)
    for fill in (FAR, -FAR, rng.choice(known, hole.sum())):
        filled = values.copy()
        filled[hole] = fill
        yield filled


def _same(one: Any, other: Any) -> bool:
    close = 1e-9 if np.asarray(one).dtype.itemsize == 8 else 1e-4
    return np.allclose(one, other, rtol=close, atol=close, equal_nan=True)


def paired(
    jaxpr: Any, consts: Sequence[Any], ones: Sequence[Any], others: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The outputs of a program at two sets of inputs, both with the answers that the first gives to tests for NaN."""

    def step(eqn: Any, given: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        one, other = [a for a, _ in given], [b for _, b in given]
        same = all(a is b for a, b in given)
        inner = None if same or eqn.params.get("name") in ORDERED else called(eqn)
        if inner is not None:
            found, beside = paired(inner[0], inner[1], one, other)
        elif eqn.primitive.name in LOOPS and not same:
            found, beside = _IN_LOOPS[eqn.primitive.name](eqn.params, one, other)
        else:
            found = bind(eqn.primitive, eqn.params, one)
            beside = found if same or _asks(eqn) else bind(eqn.primitive, eqn.params, other)
        return list(zip(found, beside, strict=True))

    def constant(value: Any, aval: Any) -> tuple[Any, Any]:
        array = value if hasattr(value, "dtype") else jnp.asarray(value, aval.dtype)
        return array, array

    results = walked(jaxpr, consts, list(zip(ones, others, strict=True)), step, constant)
    return [a for a, _ in results], [b for _, b in results]


def _asks(eqn: Any) -> bool:
    """Whether an equation is a test for NaN: x != x, x == x, or of a number for being finite."""
    name = eqn.primitive.name
    return name == "is_finite" or (name in ("eq", "ne") and eqn.invars[0] is eqn.invars[1])


Pair: TypeAlias = tuple[list[Any], list[Any]]


def _scanned(params: Any, one: list[Any], other: list[Any]) -> Pair:
    body, (first, carries) = params["jaxpr"], scan_sizes(params)
    last = first + carries

    def step(carry: Any, rows: Any) -> Any:
        pairs = zip((one, other), carry, rows, strict=True)
        outs = paired(body.jaxpr, body.consts, *([*given[:first], *state, *row] for given, state, row in pairs))
        return tuple(o[: last - first] for o in outs), tuple(o[last - first :] for o in outs)

    states, rows = (one[first:last], other[first:last]), (one[last:], other[last:])
    ends, stacked = jax.lax.scan(step, states, rows, params["length"], params["reverse"])
    return [*ends[0], *stacked[0]], [*ends[1], *stacked[1]]


def _turned(params: Any, one: list[Any], other: list[Any]) -> Pair:
    """Both take the turns that the first takes."""
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    tested, first = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]

    def goes_on(state: Any) -> Any:
        return jaxpr_as_fun(test)(*one[:tested], *state[0])[0]

    def turn(state: Any) -> Any:
        pairs = zip((one, other), state, strict=True)
        return paired(body.jaxpr, body.consts, *([*given[tested:first], *own] for given, own in pairs))

    return jax.lax.while_loop(goes_on, turn, (one[first:], other[first:]))


def _branched(params: Any, one: list[Any], other: list[Any]) -> Pair:
    """The second takes its own branch, and shares the tests where it is that of the first."""
    branches = params["branches"]

    def both(branch: Any) -> Any:
        return lambda ones, others: paired(branch.jaxpr, branch.consts, ones, others)

    found, beside = jax.lax.switch(one[0], [both(branch) for branch in branches], one[1:], other[1:])
    alone = jax.lax.switch(other[0], [jaxpr_as_fun(branch) for branch in branches], *other[1:])
    same = one[0] == other[0]
    return found, [jnp.where(same, b, a) for a, b in zip(alone, beside, strict=True)]


_IN_LOOPS = {"scan": _scanned, "while": _turned, "cond": _branched}
