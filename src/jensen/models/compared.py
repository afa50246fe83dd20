"""NaN that a program takes for numbers: a comparison with NaN is false, a cast to integers 0, a sort puts it last.

The log density is then a number, and silently that of other data. Where a program fills or leaves out what is missing,
it tests for NaN first; all else it computes is the same whatever stands in the place of the NaN. The program is
therefore evaluated with numbers there, in all but the tests.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jensen.models.data_check import Place, refuse_missing
from jensen.models.folding import bind, called

FAR = 1e8
"""A number beyond any threshold, and its opposite; entries of the array itself are the third trial."""


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
        values = np.asarray(leaves[which])
        hole, rng = np.isnan(values), np.random.default_rng(0)
        known = values[~hole] if not hole.all() else np.zeros(1)
        for fill in (FAR, -FAR, rng.choice(known, hole.sum())):
            filled = values.copy()
            filled[hole] = fill
            ones, others = jax.device_get(compiled(leaves, filled, which, points))
            if not all(_same(a, b) for a, b in zip(ones, others, strict=True)):
                refuse_missing(arrays, keys[which], place, compared=True)


def _same(one: Any, other: Any) -> bool:
    close = 1e-9 if np.asarray(one).dtype.itemsize == 8 else 1e-4
    return np.allclose(one, other, rtol=close, atol=close, equal_nan=True)


def paired(
    jaxpr: Any, consts: Sequence[Any], ones: Sequence[Any], others: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The outputs of a program at two sets of inputs, both with the answers that the first gives to tests for NaN."""
    left = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *ones), strict=True))
    right = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *others), strict=True))

    def read(values: dict[Any, Any], atom: Any) -> Any:
        if isinstance(atom, Literal):
            return jnp.asarray(atom.val, getattr(atom.aval, "dtype", None))
        return values[atom]

    for eqn in jaxpr.eqns:
        one, other = [read(left, v) for v in eqn.invars], [read(right, v) for v in eqn.invars]
        same = all(a is b or isinstance(v, Literal) for a, b, v in zip(one, other, eqn.invars, strict=True))
        inner = None if same else called(eqn)
        if inner is not None:
            found, beside = paired(inner[0], inner[1], one, other)
        elif eqn.primitive.name == "scan" and not same:
            found, beside = _scanned(eqn, one, other)
        else:
            found = bind(eqn.primitive, eqn.params, one)
            told = same or _asks(eqn) or eqn.primitive.name in ("cond", "while")
            beside = found if told else bind(eqn.primitive, eqn.params, other)
        left.update(zip(eqn.outvars, found, strict=True))
        right.update(zip(eqn.outvars, beside, strict=True))
    return [read(left, v) for v in jaxpr.outvars], [read(right, v) for v in jaxpr.outvars]


def _asks(eqn: Any) -> bool:
    """Whether an equation is a test for NaN: x != x, x == x, or of a number for being finite."""
    name = eqn.primitive.name
    return name == "is_finite" or (name in ("eq", "ne") and eqn.invars[0] is eqn.invars[1])


def _scanned(eqn: Any, one: list[Any], other: list[Any]) -> tuple[list[Any], list[Any]]:
    params = eqn.params
    body, first = params["jaxpr"], params["num_consts"]
    last = first + params["num_carry"]

    def step(carry: Any, rows: Any) -> Any:
        pairs = zip((one, other), carry, rows, strict=True)
        inputs = [[*given[:first], *state, *row] for given, state, row in pairs]
        outs = paired(body.jaxpr, body.consts, *inputs)
        return tuple(o[: last - first] for o in outs), tuple(o[last - first :] for o in outs)

    states, rows = (one[first:last], other[first:last]), (one[last:], other[last:])
    ends, stacked = jax.lax.scan(step, states, rows, params["length"], params["reverse"])
    return [*ends[0], *stacked[0]], [*ends[1], *stacked[1]]
