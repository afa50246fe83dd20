"""A program followed up to its indices, as far as the data alone determine them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend.core import Literal

from jensen._program.folding import called
from jensen._program.indices.known import Known, LaterError, constant
from jensen._program.indices.loops import Turns, entering
from jensen._program.indices.needed import Needed, index_inputs
from jensen._program.indices.primitives import computed
from jensen._program.primitive_kinds import LOOPS


@dataclass(frozen=True, eq=False)
class Lookup:
    """An index that is known before any latent is.

    Attributes:
        eqn: the equation. operand: which of its operands the index is. index: its entries.
        path: the calls that lead to the equation, itself included; `None` inside a loop.
    """

    eqn: Any
    operand: int
    index: Known
    path: tuple[Any, ...] | None


class Walk:
    """Runs the parts of a program that feed an index; every index that is known is kept in `lookups`.

    Without `constants`, constants that NumPy cannot compute are left out; a `LaterError` says that the data need them.
    """

    def __init__(self, needed: Needed, constants: bool = True):
        self.needed, self.constants = needed, constants
        self.lookups: list[Lookup] = []
        self._literals: dict[Any, Known | None] = {}

    def run(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        args: Sequence[Known | None],
        wanted: frozenset[int],
        steps: int | None = None,
        path: tuple[Any, ...] | None = (),
    ) -> list[Known | None]:
        """The wanted outputs, `None` where they are unknown or not wanted."""
        values: dict[Any, Known | None] = dict(zip(jaxpr.invars, args, strict=True))
        values.update(zip(jaxpr.constvars, (c if isinstance(c, Known) else constant(c) for c in consts), strict=True))

        def read(atom: Any) -> Known | None:
            return self._literal(atom) if isinstance(atom, Literal) else values.get(atom)

        for eqn, outs in self.needed(jaxpr, wanted).equations:
            here = None if path is None else (*path, eqn)
            inputs = [read(v) for v in eqn.invars]
            for i in index_inputs(eqn):
                index = inputs[i]
                if index is not None and index.array.size and not index.later:
                    self.lookups.append(Lookup(eqn, i, index, None if steps is not None else here))
            values.update(zip(eqn.outvars, self._outputs(eqn, inputs, outs, steps, here), strict=True))
        return [read(v) if i in wanted else None for i, v in enumerate(jaxpr.outvars)]

    def _literal(self, atom: Literal) -> Known | None:
        """The constant of a literal: one object for equal ones, so that it is recognised again."""
        value = np.asarray(atom.val)
        key = str(getattr(atom.aval, "dtype", None)), value.shape, value.tobytes()
        if key not in self._literals:
            self._literals[key] = constant(atom.val, getattr(atom.aval, "dtype", None))
        return self._literals[key]

    def _outputs(
        self, eqn: Any, inputs: list[Known | None], outs: frozenset[int], steps: int | None, path: Any
    ) -> list[Known | None]:
        name, inner = eqn.primitive.name, called(eqn)
        if inner is not None:
            return self.run(*inner, inputs, outs, steps, path)
        if name in LOOPS and any(x is not None and x.later for x in inputs):
            raise LaterError
        if name == "cond":
            return self._branches(eqn, inputs, outs, steps)
        if name in ("scan", "while"):
            return self._loop(eqn, inputs, outs, steps)
        return computed(eqn, inputs, steps, self.constants) if outs else [None] * len(eqn.outvars)

    def _branches(
        self, eqn: Any, inputs: list[Known | None], outs: frozenset[int], steps: int | None
    ) -> list[Known | None]:
        which, *operands = inputs
        branches = eqn.params["branches"]
        if which is not None and not which.stepped:
            branch = branches[int(np.clip(which.array, 0, len(branches) - 1))]
            return self.run(branch.jaxpr, branch.consts, operands, outs, steps, None)
        for number, branch in enumerate(branches):
            taken, count = operands, steps
            if which is not None:  # only the steps that take this branch
                rows = np.flatnonzero(np.clip(which.array, 0, len(branches) - 1) == number)
                if not len(rows):
                    continue
                taken, count = [x and _some(x, rows) for x in operands], len(rows)
            self.run(branch.jaxpr, branch.consts, taken, frozenset(), count, None)
        return [None] * len(eqn.outvars)

    def _loop(
        self, eqn: Any, inputs: list[Known | None], outs: frozenset[int], steps: int | None
    ) -> list[Known | None]:
        """The carries that the data determine, step by step, and then the body at all steps together."""
        unknown: list[Known | None] = [None] * len(eqn.outvars)
        if steps is not None and any(x is not None and x.stepped for x in inputs):
            return unknown  # a loop within a loop, over what changes in the outer one
        turns = Turns.of(eqn, self.needed, inputs, outs)
        found = entering(turns, Walk(self.needed.outputs_only, self.constants))
        if found is None or not found[0]:
            return unknown
        length, carries, last = found
        args = [*turns.consts, *carries, *(x and _leading(x, turns.reverse) for x in turns.xs)]
        ys = frozenset(i for i in outs if i >= len(carries))
        stacked = self.run(turns.body.jaxpr, turns.body.consts, args, ys, length, None)[len(carries) :]
        return [*last, *(y and _unstepped(y, length, turns.reverse) for y in stacked)]


def _leading(x: Known, reverse: bool) -> Known:
    """What a loop runs over, in the order of its steps."""
    size = int(np.prod(x.array.shape[1:], dtype=int))
    last = len(x.array) - 1

    def back(flat: int) -> tuple[Known, int]:
        step, inner = divmod(flat, size)
        return x, (last - step if reverse else step) * size + inner

    array = x.array[::-1] if reverse else x.array
    return Known(array, x.keys, back=back, moved=True, stepped=True)


def _unstepped(y: Known, length: int, reverse: bool) -> Known | None:
    """The stacked outputs of all steps as one array."""
    array = y.array if y.stepped else np.broadcast_to(y.array, (length, *y.array.shape))
    return Known(array[::-1] if reverse else array, y.keys)


def _some(x: Known, rows: np.ndarray) -> Known:
    """Some steps of what differs from step to step."""
    if not x.stepped:
        return x
    size = int(np.prod(x.array.shape[1:], dtype=int))

    def back(flat: int) -> tuple[Known, int]:
        step, inner = divmod(flat, size)
        return x, int(rows[step]) * size + inner

    return Known(x.array[rows], x.keys, back=back, moved=True, stepped=True)
