"""numpyro's scan as two pieces of array code: its first step, and all the others at once.

A step depends on the one before through the carry, and the carry of a Markov chain is a function of the step before
alone. With the states given, the body is therefore run once for the first step and once, vectorised, for steps 1 to
T - 1 beside their predecessors: the time axis becomes an axis like a plate's, with shifted positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from numpyro import handlers
from numpyro.contrib.control_flow.scan import scan_wrapper
from numpyro.ops.pytree import PytreeTrace
from numpyro.primitives import Messenger

from jensen._base.errors import ModelError
from jensen._math.programs import needed_equations
from jensen._program.folding import sources_of
from jensen._program.number_widths import seeded


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan as the first, abstract run found it, the `number`-th of the program.

    `depth` is the number of batch axes inside the body; the time axis stands to their left.
    """

    number: int
    names: tuple[str, ...]
    length: int
    depth: int

    @property
    def time_dim(self) -> int:
        """The (negative) batch dimension of time in the vectorised piece."""
        return -self.depth - 1

    def positions(self, step: str) -> np.ndarray:
        """Positions of the states of a piece: `first`, the `later` steps or those `before` them."""
        order = np.arange(self.length)
        return {"first": order[0], "later": order[1:], "before": order[:-1]}[step]


class FindScans(Messenger):
    """Records the scans of a program that sample anything."""

    def __init__(self, fn: Callable[..., Any]):
        self.scans: list[Scan] = []
        self.number = 0
        super().__init__(fn)

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Note a scan that has run."""
        if msg["type"] != "control_flow" or msg["fn"] is not scan_wrapper:
            return
        number, self.number = self.number, self.number + 1
        trace = msg["value"][1][0]
        samples = {k: s for k, s in trace.trace.items() if s["type"] == "sample"}
        lengths = {jnp.shape(s["value"])[0] for s in samples.values()}
        depth = max((len(s["fn"].batch_shape) - 1 for s in samples.values()), default=0)
        if samples and msg["args"][4]:
            raise ModelError(
                f"The scan over {', '.join(repr(n) for n in samples)} runs in reverse.",
                "NumPyro then counts values that it is given from the end, and values that it draws from the start.",
                "Flip the arrays that are scanned over, and leave reverse out.",
            )
        if samples:
            self.scans.append(Scan(number, tuple(samples), lengths.pop(), depth))


@dataclass(eq=False)
class Piece:
    """The factor of one site in one piece of the program; `scan` and `step` are set inside a scan."""

    site: str
    cls: type
    wrappers: tuple[Any, ...]
    scan: Scan | None = None
    step: str = ""


@dataclass
class RunScans(Messenger):
    """Runs every scan in its two pieces.

    `values` gives the states, `current` and `previous` the listed values of discrete states on their own axes, `shapes`
    the shapes of all latents; `describe` reads a site of a trace: (arrays by role, class, wrappers, trailing axes of
    every array); `given` makes a program take values for its latents.
    """

    program: Callable[..., Any]
    scans: Sequence[Scan]
    values: dict[str, Any]
    current: dict[str, Any]
    previous: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    describe: Callable[[dict[str, Any]], Any]
    given: Callable[..., Any]
    found: dict[str, tuple[Any, Piece]] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.program)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the run of a scan."""
        if msg["type"] != "control_flow" or msg["fn"] is not scan_wrapper:
            return
        scan = next((scan for scan in self.scans if scan.number == self.number), None)
        self.number += 1
        body, init, xs, length, reverse = msg["args"]
        if scan is None:  # nothing is sampled, so that no random keys are needed
            with handlers.block():
                carry, ys = jax.lax.scan(body, init, xs, length=length, reverse=reverse)
            msg["value"] = (length, None, carry), (PytreeTrace({}), ys)
            return
        carry, ys = self._run(scan, body, init, xs)
        msg["value"] = (scan.length, None, carry), (PytreeTrace({}), ys)

    def _run(self, scan: Scan, body: Callable[..., Any], init: Any, xs: Any) -> tuple[Any, Any]:
        init = jax.tree.map(jnp.asarray, init)
        leaves, tree = jax.tree.flatten(init)
        statics: dict[str, tuple[Any, ...]] = {}
        discrete = {n: self.current[n] for n in scan.names if n in self.current}
        before_values = {n: self.previous[n] for n in discrete}
        states = {n: self.values[n] for n in scan.names if n in self.values and n not in discrete}

        def step(flat: list[Any], x: Any, here: dict[str, Any]) -> Any:
            program = self.given(seeded(body), here)
            with handlers.block(), handlers.trace() as sites:
                out, y = program(jax.tree.unflatten(tree, flat), x)
            arrays = {}
            for site in sites.values():
                if site["type"] == "sample":
                    arrays[site["name"]], *rest = self.describe(site)
                    statics[site["name"]] = tuple(rest)
            return jax.tree.leaves(out), y, arrays

        def at(step_name: str) -> tuple[Any, Any]:
            index = scan.positions(step_name)
            pick = _slice(index)
            return jax.tree.map(pick, xs), {k: pick(v) for k, v in states.items()}

        def vectorised(flat: list[Any], step_name: str, listed: dict[str, Any]) -> Any:
            x, here = at(step_name)
            size = scan.length - 1
            mapped = jax.vmap(lambda c, x, z: step(c, x, {**z, **listed}), in_axes=(0, 0, 0), axis_size=size)
            return mapped(flat, x, here)

        x, here = at("first")
        out, y0, arrays = step(leaves, x, {**here, **discrete})
        self._keep(scan, "first", arrays, statics)
        if scan.length == 1:
            return jax.tree.unflatten(tree, out), jax.tree.map(lambda y: jnp.asarray(y)[None], y0)
        zeros = {k: jnp.zeros(self.shapes[k][1:], jnp.asarray(v).dtype) for k, v in discrete.items()}
        known = _known_carry(scan, step, leaves, xs, states, zeros)
        before = vectorised([_shifted(k, "before", scan) for k in known.arrays], "before", before_values)[0]
        carried = [
            _shifted(array, "later", scan) if leaf in known.leaves else before[leaf]
            for leaf, array in enumerate(known.arrays)
        ]
        out, later, arrays = vectorised(carried, "later", discrete)
        self._keep(scan, "later", arrays, statics)
        plain = jax.eval_shape(lambda: step(leaves, x, {**here, **zeros})[1])
        ys = jax.tree.map(lambda a, b, c: _joined(a, b, c.ndim), y0, later, plain)
        return jax.tree.unflatten(tree, [leaf[-1] for leaf in out]), ys

    def _keep(self, scan: Scan, step: str, arrays: dict[str, Any], statics: dict[str, Any]) -> None:
        for name, factor in arrays.items():
            cls, wrappers, trailing = statics[name]
            if step == "later":
                factor = jax.tree.map(lambda a, e: _placed(a, scan.depth + e), factor, trailing)
                wrappers = _with_time(wrappers, scan)
            self.found[f"{name}\x00{step}"] = factor, Piece(name, cls, wrappers, scan, step)


def _slice(index: np.ndarray) -> Callable[[Any], Any]:
    """Positions `index` (a range) of the leading axis; a single position drops it."""
    if index.ndim == 0:
        return lambda a: jnp.asarray(a)[int(index)]
    return lambda a: jnp.asarray(a)[int(index[0]) : int(index[-1]) + 1]


def _placed(array: Any, trailing: int) -> Any:
    """The leading (time) axis moved to the left of the `trailing` last axes, into the place that enumerated arrays keep
    free for it.
    """
    time, shape = array.shape[0], array.shape[1:]
    shape = (1,) * max(0, trailing - len(shape)) + shape
    lead = len(shape) - trailing
    assert lead == 0 or shape[lead - 1] == 1
    shape = (*shape[: max(0, lead - 1)], *shape[lead:])
    return jnp.moveaxis(array.reshape((time, *shape)), 0, len(shape) - trailing)


def _with_time(wrappers: Sequence[Any], scan: Scan) -> tuple[Any, ...]:
    """The wrappers with the time axis in the batch shapes that they broadcast to."""
    pending = sum(w.count for w in wrappers if w.kind == "event")
    result = []
    for wrapper in wrappers:
        if wrapper.kind == "event":
            pending -= wrapper.count
        if wrapper.kind == "batch":
            after = scan.depth + pending
            shape = (1,) * max(0, after - len(wrapper.shape)) + wrapper.shape
            lead = len(shape) - after
            shape = (*shape[: max(0, lead - 1)], scan.length - 1, *shape[lead:])
            wrapper = type(wrapper)("batch", shape=shape)
        result.append(wrapper)
    return tuple(result)


@dataclass(frozen=True)
class _Known:
    """The carry on entry to every step, (T, ...) by leaf, right for `leaves`: those that hold no state."""

    leaves: frozenset[int]
    arrays: list[Any]


def _known_carry(
    scan: Scan, step: Callable[..., Any], leaves: list[Any], xs: Any, states: dict[str, Any], zeros: dict[str, Any]
) -> _Known:
    """What the carry holds besides functions of the last state, such as a counter; refuses longer memories."""
    x = jax.tree.map(lambda a: jnp.asarray(a)[0], xs)
    here = {k: v[0] for k, v in states.items()} | zeros
    closed = jax.make_jaxpr(lambda c, x, z: step(c, x, z)[0])(leaves, x, here)
    count, first_state = len(leaves), len(leaves) + len(jax.tree.leaves(x))
    sources = sources_of(closed.jaxpr)
    of_carry = [{i for i in found if i < count} for found in sources]
    of_state = {leaf for leaf, found in enumerate(sources) if any(i >= first_state for i in found)}
    while True:
        more = {leaf for leaf in range(count) if of_carry[leaf] & of_state} - of_state
        if not more:
            break
        of_state |= more
    long = [leaf for leaf in of_state if of_carry[leaf] & of_state]
    if long:
        raise ModelError(
            f"The carry of the scan over {', '.join(repr(n) for n in scan.names)} remembers more than the last state.",
            f"Leaf {long[0]} of the carry depends both on the state of this step and on the carried one.",
            "Carry the last state alone (a chain of first order, with the state itself sampled and not its increment), "
            "or stack several states into one vector.",
        )
    if not of_carry or len(of_state) == count:
        return _Known(frozenset(), [jnp.broadcast_to(leaf, (scan.length, *leaf.shape)) for leaf in leaves])

    kept = frozenset(range(count)) - of_state
    live = closed.jaxpr.replace(outvars=[v for i, v in enumerate(closed.jaxpr.outvars) if i in kept])
    live = live.replace(
        eqns=needed_equations(live, live.outvars)
    )  # states and parameters would make the whole scan depend on them
    fillers, run = jax.tree.leaves(here), jaxpr_as_fun(ClosedJaxpr(live, closed.consts))

    def advance(carry: list[Any], x: Any) -> Any:
        new = iter(run(*carry, *jax.tree.leaves(x), *fillers))
        following = [next(new).astype(old.dtype) if i in kept else old for i, old in enumerate(carry)]
        return following, carry

    _, arrays = jax.lax.scan(advance, leaves, xs, length=scan.length)
    return _Known(kept, arrays)


def _shifted(array: Any, step: str, scan: Scan) -> Any:
    """The carry on entry to the steps of a piece."""
    return _slice(scan.positions(step))(array)


def _joined(first: Any, later: Any, rank: int) -> Any:
    """One output of all steps, of `rank` at each: time leading, enumerated axes to its left."""
    first, later = jnp.asarray(first)[None], jnp.asarray(later)
    shape = np.broadcast_shapes(first.shape[1:], later.shape[1:])
    parts = [jnp.broadcast_to(part, (part.shape[0], *shape)) for part in (first, later)]
    return _placed(jnp.concatenate(parts, 0), rank)


def trailing_axes(site: dict[str, Any], factor: dict[str, Any], wrappers: Sequence[Any], base: Any) -> dict[str, Any]:
    """How many axes of each array of a factor belong to events rather than to the batch."""
    pending = sum(w.count for w in wrappers if w.kind == "event")
    constraints = getattr(base, "arg_constraints", {})
    return {
        "parameters": {name: pending + _event_dim(constraints.get(name)) for name in factor["parameters"]},
        "value": 0 if isinstance(base, dist.Unit) else site["fn"].event_dim,
        "scale": None if factor["scale"] is None else 0,
        "masks": _mask_axes(wrappers, pending),
    }


def _mask_axes(wrappers: Sequence[Any], pending: int) -> tuple[int, ...]:
    found = []
    for wrapper in wrappers:
        if wrapper.kind == "event":
            pending -= wrapper.count
        if wrapper.kind == "mask":
            found.append(pending)
    return tuple(found)


def _event_dim(constraint: Any) -> int:
    try:
        return 0 if constraint is None else constraint.event_dim
    except NotImplementedError:
        return 0
