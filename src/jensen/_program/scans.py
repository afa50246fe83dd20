"""numpyro's scans whose carry is a function of the step before alone, evaluated for all steps at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Jaxpr, Literal
from numpyro import handlers
from numpyro.contrib.control_flow.scan import scan_wrapper
from numpyro.primitives import Messenger

from jensen._math.programs import needed_equations
from jensen._program.folding import bind, called, fold, scan_sizes, sources_of, walked

SEQUENTIAL = frozenset(["cond", "while"])
"""What is left as it is where it depends on the step: all branches would be taken, with their gradients."""
INTEGERS = frozenset(["add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "select_n", "convert_element_type", "copy"])


class AtOnce(Messenger):
    """Runs every scan of a program with its states given as a few vectorised evaluations of its body.

    The carry of a Markov chain is its last state, which is given: then no step waits for another, and time is one more
    axis. What the carry accumulates from step to step (a running variance) is computed first, in a scan of its own.
    With `alternating`, the first step, odd ones and even ones are evaluated apart, so that within each part the states
    of a chain have the same parity everywhere; `parts` are then the log densities of the scans' sites in these parts,
    (steps, ...) each, and `log_probs` in order. Enter it before the other handlers.
    """

    def __init__(self, fn: Callable[..., Any] | None = None, alternating: bool = False):
        self.alternating = alternating
        self.log_probs: dict[str, Any] = {}
        self.parts: dict[str, tuple[Any, ...]] = {}
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Take the place of a scan's own loop."""
        if msg["type"] != "control_flow" or msg["fn"] is not scan_wrapper or msg["value"] is not None:
            return
        body, *rest = msg["args"]
        run = partial(scan_wrapper, _judged(body) if self.alternating else body, *rest, **msg["kwargs"])
        closed, shape = jax.make_jaxpr(run, return_shape=True)()
        parts: dict[Any, tuple[Any, ...]] = {}

        def step(eqn: Any, inputs: list[Any]) -> list[Any]:
            found = scanned(eqn.params, inputs, self.alternating) if eqn.primitive.name == "scan" else None
            if found is None:
                return bind(eqn.primitive, eqn.params, inputs)
            out, stacked = found
            parts.update(zip(eqn.outvars[len(out) - len(stacked) :], stacked, strict=True))
            return out

        outputs = walked(closed.jaxpr, closed.consts, [], step)
        tree = jax.tree.structure(shape)
        last, (trace, ys) = jax.tree.unflatten(tree, outputs)
        if self.alternating:
            ys, own = ys
            self.log_probs.update(own)
            apart = jax.tree.unflatten(tree, [parts.get(v) for v in map(_hashable, closed.jaxpr.outvars)])[1][1][1]
            self.parts.update({name: part for name, part in apart.items() if part is not None})
        msg["value"] = last, (trace, ys)


def _hashable(atom: Any) -> Any:
    return None if isinstance(atom, Literal) else atom


def _judged(body: Callable[..., Any]) -> Callable[..., Any]:
    """The step, which also says the log density of each of its sites."""

    def step(carry: Any, x: Any) -> Any:
        with handlers.trace() as sites:
            carry, y = body(carry, x)
        samples = {name: site for name, site in sites.items() if site["type"] == "sample"}
        return carry, (y, {name: site["fn"].log_prob(jnp.asarray(site["value"])) for name, site in samples.items()})

    return step


@dataclass(frozen=True)
class Stepped:
    """A value at every step of a range, which leads."""

    array: Any

    @property
    def known(self) -> bool:
        """Whether it is a number for each step that is known before anything runs."""
        return isinstance(self.array, np.ndarray) and self.array.ndim == 1


class WaitError(Exception):
    """A step does something that has to wait for the one before, or that is not the same for all steps."""


def scanned(
    params: dict[str, Any], inputs: list[Any], alternating: bool
) -> tuple[list[Any], list[tuple[Any, ...]]] | None:
    """(outputs of a `scan`, the stacked ones in parts), evaluated together; `None` where steps wait for each other."""
    try:
        return _Scan(params, inputs).outputs(alternating)
    except WaitError:
        return None


@dataclass
class _Scan:
    """A scan with its inputs; `carried` are carries on entry to all steps that a loop has computed."""

    params: dict[str, Any]
    inputs: list[Any]
    carried: dict[int, Stepped] = field(default_factory=dict)
    last: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, carries = scan_sizes(self.params)
        self.length: int = self.params["length"]
        self.body: Any = self.params["jaxpr"].jaxpr
        self.consts, self.init = self.inputs[:count], self.inputs[count : count + carries]
        self.xs = self.inputs[count + carries :]
        if self.params["reverse"]:
            self.xs = [jnp.flip(x, 0) for x in self.xs]
        self.carries: list[Any] = list(self.body.invars[count : count + carries])

    def outputs(self, alternating: bool) -> tuple[list[Any], list[tuple[Any, ...]]]:
        """Last carries and stacked outputs, and the parts of the latter."""
        steps = range(self.length)
        if self.length == 0:
            raise WaitError
        self._loops()
        parts = [steps[:1], steps[1::2], steps[2::2]] if alternating else [steps]
        parts = [part for part in parts if len(part)]
        wanted = self.body.outvars[len(self.carries) :]
        found = [self._evaluate(part, wanted) for part in parts]
        apart = list(zip(*found, strict=True)) if wanted else []
        ys = [_joined(one) for one in apart]
        if self.params["reverse"]:
            ys = [jnp.flip(y, 0) for y in ys]
        end = [self.last[i] if i in self.last else self._end(i) for i in range(len(self.carries))]
        return [*end, *ys], [] if self.params["reverse"] else apart

    def _end(self, leaf: int) -> Any:
        return self._evaluate(range(self.length)[-1:], [self.body.outvars[leaf]])[0][0]

    def _loops(self) -> None:
        """Carries that depend on themselves: kept ones, the counter of steps, and the rest by a loop for each group."""
        count = len(self.carries)
        first = len(self.consts)
        sources = sources_of(self.body)[:count]
        direct = [{i - first for i in found if first <= i < first + count} for found in sources]
        for i, out in enumerate(self.body.outvars[:count]):
            if out is self.carries[i]:
                self.last[i] = self.init[i]
            elif self._counts(i):
                self.carried[i] = Stepped(int(self.init[i]) + np.arange(self.length, dtype=self.carries[i].aval.dtype))
                self.last[i] = jnp.asarray(int(self.init[i]) + self.length, self.carries[i].aval.dtype)
        before = [set(found) for found in direct]
        for _ in range(count):
            before = [found.union(*(before[j] for j in found)) for found in before]
        groups: list[set[int]] = []
        for i in range(count):
            if i in before[i] and i not in self.last:
                together = {j for j in before[i] if j not in self.last or j in self.carried}
                for other in [g for g in groups if (g & together) - set(self.carried)]:
                    groups.remove(other)
                    together |= other
                groups.append(together)
        for group in groups:
            self._loop(sorted(group))

    def _counts(self, i: int) -> bool:
        """Whether a carry counts the steps from a number that is known."""
        out, own, init = self.body.outvars[i], self.carries[i], self.init[i]
        made = next((eqn for eqn in self.body.eqns if out in eqn.outvars), None)
        if made is None or made.primitive.name != "add" or isinstance(init, Tracer) or np.ndim(init):
            return False
        other = [v for v in made.invars if v is not own]
        return len(other) == 1 and isinstance(other[0], Literal) and other[0].val == 1 and own.aval.dtype.kind == "i"

    def _loop(self, group: list[int]) -> None:
        """The carries of a group on entry to every step, by a loop over what they need."""
        keep = [self.body.outvars[i] for i in group]
        live = needed_equations(self.body, keep)
        body = self.body.replace(eqns=live, outvars=keep)

        def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
            state = list(self.init)
            for i, now in zip(group, carry, strict=True):
                state[i] = now
            run = lambda eqn, inputs: bind(eqn.primitive, eqn.params, inputs)  # noqa: E731
            return walked(body, self.params["jaxpr"].consts, [*self.consts, *state, *x], run), carry

        start = [jnp.asarray(self.init[i], self.carries[i].aval.dtype) for i in group]
        last, entering = jax.lax.scan(step, start, self.xs, length=self.length)
        for i, final, before in zip(group, last, entering, strict=True):
            if i not in self.last:
                self.carried[i], self.last[i] = Stepped(before), final

    def _entering(self, leaf: int, steps: range) -> Any:
        """A carry on entry to these steps."""
        if leaf in self.carried:
            return Stepped(_along(self.carried[leaf].array, steps))
        if leaf in self.last:
            return self.init[leaf]
        out, init = [self.body.outvars[leaf]], jnp.asarray(self.init[leaf])[None]
        if steps == range(self.length):  # at all steps, so that it is one computation with what is wanted there
            before = self._evaluate(steps, out)[0][:-1]
            return Stepped(jnp.concatenate([init.astype(before.dtype), before]))
        if steps.start > 0:
            return Stepped(self._evaluate(range(steps.start - 1, steps.stop - 1, steps.step), out)[0])
        if len(steps) == 1:
            return Stepped(init)
        later = self._entering(leaf, steps[1:]).array
        return Stepped(jnp.concatenate([init.astype(later.dtype), later]))

    def _evaluate(self, steps: range, wanted: Iterable[Any]) -> list[Any]:
        """Variables of the body at these steps, (steps, ...)."""
        wanted = list(wanted)
        live = needed_equations(self.body, wanted)
        used = {v for eqn in live for v in eqn.invars if not isinstance(v, Literal)} | {
            v for v in wanted if not isinstance(v, Literal)
        }
        count = len(self.carries)
        inputs = [*self.consts, *(self._entering(i, steps) if v in used else None for i, v in enumerate(self.carries))]
        following = zip(self.body.invars[len(self.consts) + count :], self.xs, strict=True)
        inputs += [Stepped(_along(x, steps)) if v in used else None for v, x in following]
        body = self.body.replace(eqns=live, outvars=wanted)
        found = _over_steps(body, self.params["jaxpr"].consts, inputs, len(steps))
        return [
            one.array if isinstance(one, Stepped) else jnp.broadcast_to(one, (len(steps), *jnp.shape(one)))
            for one in found
        ]


def _over_steps(jaxpr: Jaxpr, consts: Sequence[Any], given: list[Any], count: int) -> list[Any]:
    """The outputs of a step, `Stepped` where they differ from step to step."""

    def step(eqn: Any, inputs: list[Any]) -> list[Any]:
        name, stepped = eqn.primitive.name, [isinstance(x, Stepped) for x in inputs]
        inner = called(eqn) if name in ("jit", "pjit", "closed_call") else None
        if name in INTEGERS and all(_number(x) for x in inputs):
            arrays = [np.asarray(x.array if isinstance(x, Stepped) else x) for x in inputs]
            folded = fold(eqn.primitive, eqn.params, arrays)
            return [Stepped(np.broadcast_to(one, (count,))) for one in folded] if any(stepped) else folded
        if not any(stepped):
            return bind(eqn.primitive, eqn.params, inputs)
        if inner is not None:
            return _over_steps(*inner, inputs, count)
        if name in SEQUENTIAL:
            raise WaitError
        out = _picked(eqn, inputs, count) if name == "dynamic_slice" else None
        if out is not None:
            return out
        arrays = [x.array if isinstance(x, Stepped) else x for x in inputs]
        axes = tuple(0 if one else None for one in stepped)
        run = jax.vmap(partial(_bound, eqn), in_axes=axes, axis_size=count)
        return [Stepped(one) for one in run(*arrays)]

    return walked(jaxpr, consts, given, step)


def _bound(eqn: Any, *arrays: Any) -> list[Any]:
    return bind(eqn.primitive, eqn.params, list(arrays))


def _number(value: Any) -> bool:
    """Whether it is one known number, at each step or at all of them."""
    if isinstance(value, Stepped):
        return value.known
    return not isinstance(value, Tracer) and np.ndim(value) == 0


def _picked(eqn: Any, inputs: list[Any], count: int) -> list[Any] | None:
    """An array that every step takes its own known part of, moved instead of looked up; `None` for other slices."""
    operand, *starts = inputs
    sizes, shape = eqn.params["slice_sizes"], eqn.invars[0].aval.shape
    moving = [axis for axis, start in enumerate(starts) if isinstance(start, Stepped)]
    if isinstance(operand, Stepped) or len(moving) != 1 or sizes[moving[0]] != 1 or not all(map(_number, starts)):
        return None
    (axis,) = moving
    first = [0 if i == axis else int(np.clip(int(s), 0, shape[i] - sizes[i])) for i, s in enumerate(starts)]
    ends = [shape[i] if i == axis else a + n for i, (a, n) in enumerate(zip(first, sizes, strict=True))]
    part = operand if (first, ends) == ([0] * len(shape), list(shape)) else jax.lax.slice(operand, first, ends)
    positions = np.clip(starts[axis].array, 0, shape[axis] - 1)
    gap = int(positions[1] - positions[0]) if count > 1 else 1
    order = range(int(positions[0]), int(positions[0]) + gap * count, gap) if gap > 0 else range(0)
    moved = jnp.moveaxis(part, axis, 0)
    even = np.array_equal(positions, np.asarray(order))
    return [Stepped(jnp.expand_dims(_along(moved, order) if even else moved[positions], axis + 1))]


def _along(array: Any, steps: range) -> Any:
    """These positions of the leading axis; the array itself where they are all of it."""
    if steps == range(np.shape(array)[0]):
        return array
    if isinstance(array, np.ndarray):
        return array[steps.start : steps.stop : steps.step]
    ends = (steps[-1] + 1, *np.shape(array)[1:])
    return jax.lax.slice(array, (steps.start, *[0] * (array.ndim - 1)), ends, (steps.step, *[1] * (array.ndim - 1)))


def _joined(parts: tuple[Any, ...]) -> Any:
    """Steps 0, then 1, 3, 5, ..., then 2, 4, 6, ... in order; a single part as it is."""
    if len(parts) < 3:
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)
    first, odd, even = parts
    pairs, shape = even.shape[0], even.shape[1:]
    woven = jnp.concatenate([odd[:pairs, None], even[:, None]], axis=1).reshape(2 * pairs, *shape)
    return jnp.concatenate([first, woven, odd[pairs:]])


__all__ = ["AtOnce", "scanned"]
