"""The carries of a loop that the data alone determine, on entry to every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._program.folding import scan_sizes
from jensen._program.indices.known import Known, union
from jensen._program.indices.needed import Needed

if TYPE_CHECKING:
    from jensen._program.indices.walk import Walk

TURNS = 20_000
"""Steps that are followed one by one at most."""


@dataclass(frozen=True, eq=False)
class Turns:
    """A `scan` or a `while`: its body and what enters it; `carries` are those that are needed.

    `test` is the program that says whether another turn follows, with its constants, and `length` the number of steps
    where that is known.
    """

    body: Any
    consts: list[Known | None]
    init: list[Known | None]
    xs: list[Known | None]
    carries: frozenset[int]
    length: int | None
    reverse: bool = False
    test: Any = None
    test_consts: tuple[Known | None, ...] = ()

    @staticmethod
    def of(eqn: Any, needed: Needed, inputs: list[Known | None], outs: frozenset[int]) -> Turns:
        """The loop of an equation."""
        params = eqn.params
        if eqn.primitive.name == "scan":
            first, count = scan_sizes(params)
            _, carries = needed.carried(params["jaxpr"].jaxpr, outs, first, count)
            init = inputs[first : first + count]
            return Turns(
                params["jaxpr"],
                inputs[:first],
                init,
                inputs[first + count :],
                carries,
                params["length"],
                params["reverse"],
            )
        tested, moved = params["cond_nconsts"], params["body_nconsts"]
        _, _, carries = needed.turned(eqn, outs)
        own, init = inputs[tested : tested + moved], inputs[tested + moved :]
        test = params["cond_jaxpr"]
        return Turns(params["body_jaxpr"], own, init, [], carries, None, test=test, test_consts=tuple(inputs[:tested]))


def entering(turns: Turns, walk: Walk) -> tuple[int, list[Known | None], list[Known | None]] | None:
    """(steps, carries on entry to every step, carries at the end); `None` where the number of steps is unknown."""
    needed = _determined(turns, walk.needed)
    count, length = len(turns.init), turns.length
    if length is None and not _testable(turns, walk.needed, needed):
        return None
    if not needed:
        return (length or 0), [None] * count, [None] * count
    first = [x if i in needed else None for i, x in enumerate(turns.init)]
    if length is not None:
        counters = {i: _counted(turns, i, length) for i in needed}
        if all(counters.values()):
            found = [counters.get(i) for i in range(count)]
            return length, [f and f[0] for f in found], [f and f[1] for f in found]
        if length > TURNS:
            return length, [f and f[0] for f in (counters.get(i) for i in range(count))], [None] * count
    return _one_by_one(turns, walk, frozenset(needed), first)


def _one_by_one(
    turns: Turns, walk: Walk, needed: frozenset[int], carry: list[Known | None]
) -> tuple[int, list[Known | None], list[Known | None]] | None:
    before: dict[int, list[np.ndarray]] = {i: [] for i in needed}
    keys = union([*carry, *turns.consts, *turns.xs])
    step = 0
    while step < turns.length if turns.length is not None else _another(turns, walk, carry):
        if step > TURNS:
            return None
        for i in needed:
            before[i].append(carry[i].array)  # type: ignore[union-attr]
        row = -1 - step if turns.reverse else step
        xs = [x and Known(x.array[row], x.keys) for x in turns.xs]
        carry = walk.run(turns.body.jaxpr, turns.body.consts, [*turns.consts, *carry, *xs], needed, None, None)
        carry = carry[: len(turns.init)]
        if any(carry[i] is None for i in needed):
            return None
        step += 1
    stacked = [
        Known(np.stack(before[i]), keys, stepped=True) if i in needed and step else None for i in range(len(carry))
    ]
    return step, stacked, [x and Known(x.array, keys) for x in carry]


def _another(turns: Turns, walk: Walk, carry: list[Known | None]) -> bool:
    answer = walk.run(turns.test.jaxpr, turns.test.consts, [*turns.test_consts, *carry], frozenset([0]), None, None)[0]
    return answer is not None and bool(answer.array)


def _determined(turns: Turns, needed: Needed) -> set[int]:
    """The carries that follow from what is known alone."""
    first = len(turns.consts)
    known = {i for i in turns.carries if turns.init[i] is not None}
    while True:
        given = {i for i, x in enumerate(turns.consts) if x is not None} | {first + i for i in known}
        given |= {first + len(turns.init) + i for i, x in enumerate(turns.xs) if x is not None}
        left = {i for i in known if needed(turns.body.jaxpr, frozenset([i])).inputs <= given}
        if left == known:
            return known
        known = left


def _testable(turns: Turns, needed: Needed, known: set[int]) -> bool:
    tested = len(turns.test_consts)
    used = needed(turns.test.jaxpr, frozenset([0])).inputs
    return all(turns.test_consts[i] is not None if i < tested else i - tested in known for i in used)


def _counted(turns: Turns, i: int, length: int) -> tuple[Known, Known] | None:
    """(a carry on entry to every step, at the end), where it counts the steps or stays as it is."""
    jaxpr, init = turns.body.jaxpr, turns.init[i]
    own, out = jaxpr.invars[len(turns.consts) + i], jaxpr.outvars[i]
    assert init is not None
    if out is own:
        return init, init
    made = next((eqn for eqn in jaxpr.eqns if out in eqn.outvars), None)
    if made is None or made.primitive.name != "add" or init.array.ndim or own not in made.invars:
        return None
    other = [getattr(v, "val", None) for v in made.invars if v is not own]
    if len(other) != 1 or other[0] is None or np.ndim(other[0]) or init.array.dtype.kind not in "iu":
        return None
    places = np.asarray(init.array + np.arange(length + 1) * int(other[0]), init.array.dtype)
    return Known(places[:-1], init.keys, stepped=True), Known(places[-1], init.keys)
