"""Which equations of a program feed an index: only these are ever evaluated."""

from dataclasses import dataclass
from typing import Any

from jax.extend.core import Literal

from jensen._program.folding import called, scan_sizes


def index_inputs(eqn: Any) -> range:
    """The operands of an equation that are indices."""
    name = eqn.primitive.name
    if name == "gather" or name.startswith("scatter"):
        return range(1, 2)
    if name == "cond" or encodes(eqn) or (name == "select_n" and eqn.invars[0].aval.dtype != bool):
        return range(1)
    first = {"dynamic_slice": 1, "dynamic_update_slice": 2}.get(name)
    return range(0) if first is None else range(first, len(eqn.invars))


def encodes(eqn: Any) -> bool:
    """Whether an equation is a call of `jax.nn.one_hot`, which gives a row of zeros for what lies outside.

    Only that call: a comparison that the user writes, `g[:, None] == jnp.arange(J)`, may mean anything.
    """
    return eqn.params.get("name") == "_one_hot" and len(eqn.invars) == 1


@dataclass(frozen=True)
class Part:
    """The part of a program that indices and the wanted outputs need.

    Attributes:
        equations: in order, each with those of its outputs that are needed.
        inputs: positions of the needed inputs of the program.
    """

    equations: list[tuple[Any, frozenset[int]]]
    inputs: frozenset[int]


class Needed:
    """Finds parts of programs, those for indices too unless `indices` is false; what was found is kept."""

    def __init__(self, indices: bool = True) -> None:
        self.indices = indices
        self.outputs_only: Needed = Needed(indices=False) if indices else self
        self._known: dict[Any, tuple[Any, Part]] = {}

    def __call__(self, jaxpr: Any, wanted: frozenset[int]) -> Part:
        """The part of a program for these outputs and, where asked for, for every index in it."""
        key = id(jaxpr), wanted
        if key not in self._known:
            self._known[key] = jaxpr, self._part(jaxpr, wanted)
        return self._known[key][1]

    def _part(self, jaxpr: Any, wanted: frozenset[int]) -> Part:
        needed = {v for i, v in enumerate(jaxpr.outvars) if i in wanted and not isinstance(v, Literal)}
        equations = []
        for eqn in reversed(jaxpr.eqns):
            outs = frozenset(i for i, v in enumerate(eqn.outvars) if v in needed)
            inputs = self._inputs(eqn, outs)
            if outs or inputs:
                equations.append((eqn, outs))
                needed.update(v for i, v in enumerate(eqn.invars) if i in inputs and not isinstance(v, Literal))
        return Part(equations[::-1], frozenset(i for i, v in enumerate(jaxpr.invars) if v in needed))

    def _inputs(self, eqn: Any, outs: frozenset[int]) -> frozenset[int]:
        name, count = eqn.primitive.name, len(eqn.invars)
        inner = called(eqn)
        if inner is not None:
            own = index_inputs(eqn) if self.indices else ()
            return self(inner[0], outs).inputs.union(own)
        if name == "cond":
            parts = [self(branch.jaxpr, outs) for branch in eqn.params["branches"]]
            used = frozenset(i + 1 for part in parts for i in part.inputs)
            return used | {0} if used or outs or self.indices else used
        if name == "scan":
            first, count = scan_sizes(eqn.params)
            part, carries = self.carried(eqn.params["jaxpr"].jaxpr, outs, first, count)
            return part.inputs | {first + i for i in carries}
        if name == "while":
            tested, moved = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
            part, test, carries = self.turned(eqn, outs)
            if not (part.equations or outs):
                return frozenset()
            own = {i for i in test.inputs if i < tested} | {tested + i for i in part.inputs if i < moved}
            return frozenset(own | {tested + moved + i for i in carries})
        return frozenset(range(count) if outs else index_inputs(eqn) if self.indices else ())

    def carried(
        self, body: Any, outs: frozenset[int], first: int, count: int, also: frozenset[int] = frozenset()
    ) -> tuple[Part, frozenset[int]]:
        """(part of a loop's body, the carries that it needs), for these outputs of the loop."""
        wanted = outs | also
        while True:
            part = self(body, wanted)
            more = wanted | {i - first for i in part.inputs if first <= i < first + count}
            if more == wanted:
                return part, frozenset(i for i in wanted if i < count)
            wanted = more

    def turned(self, eqn: Any, outs: frozenset[int]) -> tuple[Part, Part, frozenset[int]]:
        """(part of a while loop's body, of its test, the carries that both need)."""
        tested, moved = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        count = len(eqn.invars) - tested - moved
        test = self(eqn.params["cond_jaxpr"].jaxpr, frozenset([0]))
        also = frozenset(i - tested for i in test.inputs if i >= tested)
        body = eqn.params["body_jaxpr"].jaxpr
        part, _ = self.carried(body, outs, moved, count)
        if not (part.equations or outs):
            return part, test, frozenset()
        part, carries = self.carried(body, outs, moved, count, also)
        return part, test, carries
