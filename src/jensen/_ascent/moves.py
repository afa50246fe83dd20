"""Stochastic ascent in units of each factor's own information: no learning rate, averages, a stop in posterior sd."""

import abc
import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jensen._ascent.averaged_steps import averaged, chosen, finite
from jensen._ascent.rules import in_running_units
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, Progress
from jensen._estimators import Expected, Mixed
from jensen._families.native import AbstractFreeForm, Product
from jensen._math.keys import pair, split
from jensen._math.operations import operations
from jensen._math.programs import Program

NATURAL = 5.0
"""A free-form factor moves this many step sizes of the way to its optimum given the others (at most all of it)."""
FLOOR = 1e-3
QUICK_CHUNKS = 40
"""Chunks that run in the quickly compiled program."""
PLAIN = optax.scale_by_adam(b1=0.9, b2=0.99)
ADAM = optax.chain(in_running_units(), PLAIN)
STILL = 1e-3
"""Movement in a chunk, in step sizes, below which q stands still."""


class Chunks:
    """Many steps in one program, compiled quickly at first and with every optimisation once the fit proves long.

    The change comes after `quick` chunks, not after some time, so that a seed gives the same bits on every machine.
    `move` is how q moves, `ByInformation()` by default; `heavy` how the long program is compiled, as in `Program`.
    Where runs differ in length, one program serves all up to the `longest`. `later` gives the estimator that takes over
    at the present q once the steps have been `worth` operations of work.
    """

    def __init__(
        self,
        target: Any,
        estimator: Any,
        bound: AbstractBound,
        move: Any = None,
        quick: int = QUICK_CHUNKS,
        heavy: bool | str = True,
        longest: int | None = None,
        later: Callable[[Any], Any] | None = None,
        worth: float = np.inf,
    ):
        self.longest, self.bound, self.heavy = longest, bound, heavy
        self.target, self.done, self.quick, self.later, self.worth = target, 0, quick, later, worth
        self.move = move or ByInformation()
        self._work: dict[int, float] = {}
        self._take(estimator)

    def _take(self, estimator: Any) -> None:
        self.estimator = estimator
        run = functools.partial(run_chunk, estimator, self.bound, self.move)
        self._quick, self._optimised = Program(run), Program(run, heavy=self.heavy)

    def __call__(self, q: Any, rate: float, state: Any, key: Any, count: int) -> Any:
        """What `run_chunk` returns, the values and flags as NumPy arrays."""
        keys, model = split(key, self.longest or count), self.target.step_model
        rows = self.target.rows(key, self.longest or count)
        used = None if self.longest is None else np.int32(count)
        given = (model, q, state, np.float64(rate), keys, rows, used)
        if self.later is not None:
            if count not in self._work:
                self._work[count] = operations(self._quick.traced(*given))
            self.worth -= self._work[count]
            if self.worth < 0.0:
                self._take(self.later(q))
                self.later = None
        program = self._quick if self.done < self.quick else self._optimised
        self.done += 1
        q, state, average, values, fine = program(*given)
        self.target.gradients += count * self.estimator.num_draws
        values, fine = np.asarray(values, float)[:count], np.asarray(fine)[:count]
        self.target.raise_failure()
        return q, state, average, values, fine


def run_chunk(
    estimator: AbstractEstimator,
    bound: AbstractBound,
    move: Any,
    model: Any,
    q: Any,
    state: Any,
    rate: Any,
    keys: Any,
    rows: Any = None,
    count: Any = None,
) -> tuple[Any, Any, Any, Any, Any]:
    """One step for each key, or the first `count`: last q, state, average of the second half, bounds, finite steps.

    With `rows`, (steps, B), each step is on a batch, and moves the global factors and those of its own rows: momentum
    must not move a row that it says nothing about.
    """

    def moved(q: Any, state: Any, key: Any, batch: Any) -> Any:
        value, slope = jax.value_and_grad(lambda q: estimator(bound, model, q, batch, key))(q)
        return value, move.step(estimator, q, slope, state, rate)

    def on_batch(q_all: Any, state_all: Any, key: Any, own: Any) -> Any:
        batch = model.batch(own)
        q, state = q_all.at(batch), _over_families(lambda f: f.at(batch), state_all)
        value, new = moved(q, state, key, batch)
        # The state too: a second moment that overflowed would hold q still from here on.
        fine = finite(value, new)
        q, state = chosen(fine, new, (q, state))
        return q_all.put(q, batch), _over_families(lambda a, b: a.put(b, batch), state_all, state), value, fine

    def whole(x: Any, held: Any, key: Any, own: Any) -> Any:
        del own
        value, (new, new_state) = moved(q_of(x), state_of(*held), key, None)
        new = ravel_pytree(new)[0], _numbers(new_state)[0]
        fine = finite(value, new)
        return *chosen(fine, new, (x, held)), value, fine

    if rows is not None:
        return averaged(on_batch, q, state, keys, rows, count)
    # One vector each: a step is then a few operations, however many arrays there are.
    (x, q_of), (held, state_of) = ravel_pytree(q), _numbers(state)
    x, held, average, values, fine = averaged(whole, x, held, keys, None, count)
    return q_of(x), state_of(*held), q_of(average), values, fine


def _numbers(state: Any) -> tuple[Any, Callable[..., Any]]:
    """((all floats of a state as one vector, the rest of it), how the state comes back)."""
    floats, rest = eqx.partition(state, eqx.is_inexact_array)
    flat, back = ravel_pytree(floats)
    return (flat, rest), lambda flat, rest: eqx.combine(back(flat), rest)


def fresh(q: Any) -> Any:
    """Adam's state before the first step, all of it zero; nothing is compiled for it."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(ADAM.init, q))


def adam(slope: Any, state: Any, rule: optax.GradientTransformation = ADAM) -> tuple[Any, Any]:
    """(update, state) of a tree, as one vector."""
    units: Any
    moments: Any
    units, moments = state
    flat, back = ravel_pytree(slope)
    moments = moments._replace(mu=ravel_pytree(moments.mu)[0], nu=ravel_pytree(moments.nu)[0])
    stepped: Any = rule.update(flat, (units, moments))
    update, (units, moments) = stepped
    return back(update), (units, moments._replace(mu=back(moments.mu), nu=back(moments.nu)))


def _over_families(fn: Any, *states: Any) -> Any:
    """A function of families on every family inside optimiser states; what is beside them comes from the last."""

    def at(*parts: Any) -> Any:
        return fn(*parts) if isinstance(parts[0], AbstractFamily) else parts[-1]

    return jax.tree.map(at, *states, is_leaf=lambda part: isinstance(part, AbstractFamily))


def step(estimator: Any, q: Product, slope: Product, state: Any, rate: Any) -> tuple[Product, Any]:
    """Adam on the gradient over √F, moved by 1/√F: one step size is a part of one sd, whatever the model's scales.

    Free-form factors under local expectation take a part of the exact coordinate update instead (a natural-gradient
    step, whose full length is the optimal factor given the others). A row that counts N / B times moves as one that
    counts once.
    """
    for name, count in q.weights:
        slope = slope.with_factor(name, jax.tree.map(lambda g, c=count: g / c, slope.factors[name]))
    information = replace(q, factors={name: factor.information() for name, factor in q.factors.items()})
    root = jax.tree.map(lambda f: jnp.sqrt(jnp.maximum(f, FLOOR)), information)
    white = jax.tree.map(lambda g, r: g / r, slope, root)
    update, state = adam(white, state)
    moved = jax.tree.map(lambda x, u, r: x + rate * u / r, q, update, root)
    recipes = estimator.recipes if isinstance(estimator, Mixed) else {}
    for name, factor in q.factors.items():
        if isinstance(recipes.get(name), Expected) and isinstance(factor, AbstractFreeForm):
            part = jnp.minimum(1.0, NATURAL * rate)
            own: Any = slope.factors[name]
            moved = moved.with_factor(name, factor.coordinate_step(own, part))
    return moved, state


class AbstractMove(eqx.Module):
    """How a family of some kind moves along its gradient, and how far two of its members are apart."""

    @abc.abstractmethod
    def step(self, estimator: Any, q: Any, slope: Any, state: Any, rate: Any) -> tuple[Any, Any]:
        """(q moved, state)."""

    @abc.abstractmethod
    def apart(self, a: Any, b: Any) -> float:
        """In posterior sds."""


class ByInformation(AbstractMove):
    """Products: steps in units of each factor's information."""

    def step(self, estimator: Any, q: Any, slope: Any, state: Any, rate: Any) -> tuple[Any, Any]:
        """See `step`."""
        return step(estimator, q, slope, state, rate)

    def apart(self, a: Any, b: Any) -> float:
        """See `apart`."""
        return apart(a, b)


@dataclass(frozen=True)
class BlackBoxFit:
    """The averaged q, how far the last two averages are apart (posterior sd), the bound there, and rejected steps."""

    q: Any
    converged: bool
    shift: float
    bound: float
    rejected: int


def apart(a: Product, b: Product) -> float:
    """The largest difference of two products: means in sd, log sds, and ten times a difference of probabilities."""
    gaps, (means, others), (variances, spreads) = [0.0], (a.means(), b.means()), (a.variances(), b.variances())
    for name, factor in a.factors.items():
        other = b.factors[name]
        if isinstance(factor, AbstractFreeForm) and factor.support() is not None:
            gap = np.abs(np.exp(np.asarray(factor.log_masses())) - np.exp(np.asarray(other.log_masses())))
            gaps.append(10.0 * float(gap.max()))
            continue
        sd, sd_other = (np.sqrt(np.asarray(known[name], float)) for known in (variances, spreads))
        scale = np.maximum(sd_other, 0.05 if factor.discrete else 1e-12)
        gaps.append(float((np.abs(np.asarray(means[name]) - np.asarray(others[name])) / scale).max()))
        if not factor.discrete:
            gaps.append(float(np.abs(np.log(np.maximum(sd, 1e-300) / np.maximum(sd_other, 1e-300))).max()))
    return max(gaps)


def ascend(
    run: Chunks,
    q: Any,
    key: Any,
    *,
    rate: float,
    chunk: int,
    max_chunks: int,
    tolerance: float,
    phase: str,
    patience: int = 1,
    epoch: int = 1,
) -> Generator[Progress, None, BlackBoxFit]:
    """At each step size until the bound stops rising; the step size halves until two averages agree to `tolerance`.

    Each step size begins with an optimiser that remembers nothing, and averages count only where q could move.
    `patience` is the number of chunks without a rise after which it counts as stopped. The error of a chunk's bound is
    that of its means over `epoch` steps: batches differ from each other by much more than passes over all of them.
    """
    previous, change, rejected, chunks, best = None, np.inf, 0, 0, -np.inf
    average = q
    while chunks < max_chunks:
        last, still = -np.inf, 0
        state: Any = fresh(q)
        while chunks < max_chunks:
            key, sub = pair(key)
            before = jax.tree.leaves(q)
            q, state, average, values, fine = run(q, rate, state, sub, chunk)
            moved = max(float(np.max(np.abs(np.subtract(*pair)), initial=0.0)) for pair in _changed(before, q))
            chunks += 1
            rejected += int((~fine).sum())
            tail = values[chunk // 2 :][fine[chunk // 2 :]]
            best = float(tail.mean()) if len(tail) else -np.inf
            means = tail[: len(tail) // epoch * epoch].reshape(-1, epoch).mean(axis=1)
            with np.errstate(over="ignore"):  # an infinite error stops nothing
                error = float(means.std() / np.sqrt(len(means))) if len(means) else np.inf
            yield Progress(phase, chunks * chunk, best, average)
            still = still + 1 if best < last + 2.0 * error else 0
            if still >= patience or not np.isfinite(best):
                break
            last = max(last, best)
        if previous is not None:
            change = run.move.apart(average, previous)
            # Averages of a q that stood still, or whose steps were not finite, agree, and say nothing.
            free = fine.mean() > 0.5 and (moved > STILL * rate or not bool(state[0].seen))
            if change < tolerance and free:
                return BlackBoxFit(average, True, change, best, rejected)
        previous = average
        q = average
        rate *= 0.5
    return BlackBoxFit(average, False, change, best, rejected)


def _changed(before: list[Any], q: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The numbers of q before a chunk and after it, leaf by leaf."""
    after = jax.tree.leaves(q)
    return [(np.asarray(a, float), np.asarray(b, float)) for a, b in zip(after, before, strict=True)]


NETWORKS, SLOWER = ("arrays", "network"), 0.1
"""Fields that hold a network's weights, and how much smaller the steps are that they take."""


class ByAdam(AbstractMove):
    """Adam on every coordinate, for families whose coordinates have one unit."""

    def rule(self, q: Any) -> Any:
        """The transformation of gradients."""
        del q
        return ADAM

    def shares(self, q: Any) -> dict[str, float]:
        """The part of a step that fields of these names take, where it is not the whole."""
        del q
        return {}

    def step(self, estimator: Any, q: Any, slope: Any, state: Any, rate: Any) -> tuple[Any, Any]:
        """One step."""
        del estimator
        update, state = adam(slope, state, self.rule(q))
        shares = self.shares(q)

        def moved(path: Any, x: Any, u: Any) -> Any:
            names = [getattr(part, "name", "") for part in path]
            factor = SLOWER if any(name in NETWORKS for name in names) else 1.0
            share = next((shares[name] for name in names if name in shares), 1.0)
            return x + rate * factor * share * u

        return jax.tree_util.tree_map_with_path(moved, q, update), state
