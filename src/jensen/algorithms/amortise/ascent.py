"""Stochastic ascent over minibatches of rows: step sizes raced for and cut, iterates averaged."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jensen._errors import ModelError
from jensen.algorithms.coordinate.refusals import no_maximum
from jensen.core import AbstractBound, Progress
from jensen.estimators.rows import Learned, RowEstimator
from jensen.math.noise import key_data, key_of
from jensen.math.precision import float_type
from jensen.math.programs import Program
from jensen.models.bijection import on_the_line
from jensen.models.rows import RowModel, RowTarget

ADAM = optax.scale_by_adam(b1=0.9, b2=0.999)
RATES = (0.03, 0.01, 0.003, 0.001)
CUT = 1.0 / 3.0
"""What a step size is multiplied with when the bound has stopped rising."""
LEAST_RATE = 1e-6
SHARED = 10.0
"""Shared factors move so many times the step size, at most 0.1, in units of their own sds."""
RECENT = 3.0
"""η of polynomial averaging: iterate t of a stage enters with weight (η + 1) / (t + η) (Shamir and Zhang 2013)."""
ON_THE_WAY, EDGE, RUNAWAY = 5.0, 8.0, 25.0
"""Changes of an unconstrained coordinate: worth a word where the ascent did not converge; at the edge; run away."""
WINDOW, PATIENCE = 3, 10


@dataclass(frozen=True)
class Ascended:
    """The best averaged state, its bound on fixed draws (nats), whether it converged, epochs, and rejected steps."""

    learned: Learned
    bound: float
    gain: float
    converged: bool
    epochs: float
    rate: float
    rejected: int


@dataclass(frozen=True)
class Highest:
    """The state with the highest bound so far, and how many looks ago it was found."""

    learned: Learned
    bound: float
    since: int = 0

    def after(self, learned: Learned, bound: float) -> "Highest":
        """With one more look."""
        better = bound > self.bound or not np.isfinite(self.bound)
        return Highest(learned, bound) if better else Highest(self.learned, self.bound, self.since + 1)


class Steps:
    """A chunk of steps in one program; `count` steps of `batch` rows each, its draws those of the chunk's number."""

    def __init__(
        self, target: RowTarget, estimator: RowEstimator, bound: AbstractBound, batch: int, heavy: bool, seed: int
    ):
        self.target, self.estimator, self.batch, self.seed = target, estimator, batch, seed
        self.model = target.model(batch)
        per_epoch = max(1, target.size // batch)
        self.count = int(np.clip(per_epoch, 50, 400))
        self.epochs = 0.0
        self.rng = np.random.default_rng(seed)
        self._order = np.zeros(0, int)
        self._data = {name: jax.device_put(value) for name, value in target.rows.items()}
        self._program = Program(
            lambda *given: _chunk(estimator, bound, target.size, *given), "middle" if heavy else False
        )

    def rows(self) -> np.ndarray:
        """Indices (count, batch): random permutations one after the other, what is left over waiting for none."""
        wanted = self.count * self.batch
        parts, have = [self._order], len(self._order)
        whole = self.target.size // self.batch * self.batch
        while have < wanted:
            parts.append(self.rng.permutation(self.target.size)[:whole])
            have += whole
        order = np.concatenate(parts)
        self._order = order[wanted:]
        return order[:wanted].reshape(self.count, self.batch).astype(np.int32)

    def __call__(self, learned: Learned, average: Learned, state: Any, done: int, rate: float, number: int) -> Any:
        """(state of everything after the chunk, bounds of the steps, which of them were finite)."""
        kind = float_type(self.target.precision)
        given = (self.rows(), key_data(self.count, self.seed, number), kind(rate), kind(done))
        found = self._program(self.model, self._data, learned, average, state, *given)
        self.target.gradients += self.count * self.batch * self.estimator.num_draws
        self.epochs += self.count * self.batch / self.target.size
        *moved, values, fine = found
        return *moved, np.asarray(values, float), np.asarray(fine)


def units(learned: Learned) -> Learned:
    """The unit of every number: one, and for the location of what rows share its own sd."""
    ones, shared = jax.tree.map(jnp.ones_like, learned), learned.q.shared
    moved = jax.vmap(shared.transform)(jnp.eye(shared.noise_dim, dtype=shared.loc.dtype)) - shared.loc
    sds = jnp.sqrt(jnp.sum(moved**2, axis=0))
    own = jax.tree.map(lambda leaf: jnp.ones_like(leaf) * (sds[:, None] if leaf.ndim == 2 else 1.0), shared)
    own = eqx.tree_at(lambda q: q.loc, own, sds)
    return eqx.tree_at(lambda x: x.q.shared, ones, own)


def _chunk(
    estimator: RowEstimator,
    bound: AbstractBound,
    size: int,
    model: RowModel,
    data: Any,
    learned: Learned,
    average: Learned,
    state: Any,
    index: Any,
    keys: Any,
    rate: Any,
    done: Any,
) -> Any:
    scale = size / model.rows
    start, back = ravel_pytree(learned)  # one vector: a step is then a few operations, however many arrays there are

    def body(carry: Any, item: Any) -> Any:
        flat, average, state, t = carry
        rows, key = item
        own = {name: value[rows] for name, value in data.items()}
        now = back(flat)
        value, slope = estimator.gradient(bound, model.at(own), now, own, scale, key_of(key))
        unit, pace = units(now), jnp.minimum(SHARED * rate, 0.1) / rate
        unit = ravel_pytree(unit)[0]
        paces = eqx.tree_at(lambda x: x.q.shared, ones, jax.tree.map(lambda u: pace * u, ones.q.shared))
        stepped: Any = ADAM.update(ravel_pytree(slope)[0] * unit / size, state)
        update, new_state = stepped
        new = flat + rate * ravel_pytree(paces)[0] * unit * update
        fine = jnp.isfinite(value) & jnp.isfinite(new).all() & jnp.isfinite(new_state.nu).all()
        flat, state = jax.tree.map(lambda a, b: jnp.where(fine, a, b), (new, new_state), (flat, state))
        weight = jnp.minimum(1.0, (RECENT + 1.0) / (t + RECENT))
        return (flat, average + weight * (flat - average), state, t + 1.0), (value, fine)

    ones = jax.tree.map(jnp.ones_like, learned)
    first = (start, ravel_pytree(average)[0], state, done + 1.0)
    (flat, mean, state, _), (values, fine) = jax.lax.scan(body, first, (index, keys))
    return back(flat), back(mean), state, values, fine


def fresh(learned: Any) -> Any:
    """Adam's state before the first step."""
    return ADAM.init(ravel_pytree(learned)[0])


def ascend(
    steps: Steps,
    learned: Any,
    measure: Callable[[Learned], float],
    watch: "Watch",
    max_epochs: int,
    tolerance: float,
    early: bool = False,
) -> Generator[Progress, None, Ascended]:
    """Stages of falling step sizes, each from the average of the one before.

    The first step size is the best of `RATES` over one chunk each. A stage ends when the mean bound of its latest
    chunks no longer rises beyond their scatter, or after half of the epochs that are left. It has converged when two
    stages in a row gain less than `tolerance` nats a row, on fixed draws, over the best before. With `early` a stage
    also ends when `measure`, then that of held-out rows, has not risen for `PATIENCE` chunks, and gives back its best.
    """
    size = steps.target.size
    rate, rejected = yield from _raced(steps, learned)
    best, best_bound = learned, measure(learned)
    gain, number, still = np.inf, 0, 0
    while steps.epochs < max_epochs:
        state, average, current = fresh(best), best, best
        until = steps.epochs + max(0.5 * (max_epochs - steps.epochs), steps.count * steps.batch / size)
        means: list[float] = []
        done, highest = 0, Highest(average, best_bound)
        while steps.epochs < until:
            number += 1
            current, average, state, values, fine = steps(current, average, state, done, rate, number)
            done += steps.count
            rejected += int((~fine).sum())
            means.append(float(values[fine].mean()) if fine.any() else -np.inf)
            yield Progress("ascent", number * steps.count, means[-1], average, f"epoch {steps.epochs:.0f}")
            watch.look(current, means[-1])
            if early:
                highest = highest.after(average, measure(average))
            if not np.isfinite(means[-1]) or not _rising(means) or highest.since == PATIENCE:
                break
        average, reached = (highest.learned, highest.bound) if early else (average, measure(average))
        if not np.isfinite(reached) and not np.isfinite(best_bound):
            raise ModelError(
                "The bound is not finite at the starting values.",
                f"Plate '{steps.target.plate}'.",
                "Start parameters closer to plausible values, and scale the data to about one.",
            )
        gain = (reached - best_bound) / size
        if reached > best_bound or not np.isfinite(best_bound):
            best, best_bound = average, reached
        still = still + 1 if gain < tolerance else 0
        if still == 2:
            return Ascended(best, best_bound, gain, True, steps.epochs, rate, rejected)
        rate *= CUT
        if rate < LEAST_RATE:
            break
    watch.look(best, best_bound, last=True)
    return Ascended(best, best_bound, gain, False, steps.epochs, rate, rejected)


def _raced(steps: Steps, learned: Any) -> Generator[Progress, None, tuple[float, int]]:
    found, rejected = [], 0
    for rate in RATES:
        _, average, _, values, fine = steps(learned, learned, fresh(learned), 0, rate, 0)
        rejected += int((~fine).sum())
        tail = values[3 * steps.count // 4 :][fine[3 * steps.count // 4 :]]
        reached = float(tail.mean()) if len(tail) and fine.mean() > 0.9 else -np.inf
        found.append((reached, rate))
        yield Progress("step size", len(found), reached, average, f"rate {rate:g}")
    return max(found)[1], rejected


def _rising(means: list[float]) -> bool:
    """Whether the latest chunks lie above those before by more than their scatter explains."""
    h = max(WINDOW, len(means) // 4)
    if len(means) < 2 * h:
        return True
    values = np.array(means)
    rise = values[-h:].mean() - values[-2 * h : -h].mean()
    noise = np.diff(values[-2 * h :]).std() / np.sqrt(2.0)
    return bool(rise > 2.0 * noise * np.sqrt(2.0 / h))


class Watch:
    """Parameters on their way to the edge of their range, the bound rising all the time.

    Far out, the encoder has to follow ever more closely and the ascent slows down: what has left the start by `EDGE`
    and raised the bound ever since has run off if the ascent has not come to an end by itself either.
    """

    def __init__(self, target: RowTarget, learned: Learned):
        self.start = {
            name: np.asarray(value)
            for name, value in learned.parameters.items()
            if not on_the_line(target.charts.supports[name])
        }
        self.value = np.inf

    def changes(self, learned: Learned) -> dict[str, float]:
        """The largest change of each constrained parameter, unconstrained."""
        found = {n: np.abs(np.asarray(learned.parameters[n]) - value) for n, value in self.start.items()}
        return {name: float(change.max(initial=0.0)) for name, change in found.items()}

    def far(self, learned: Learned, converged: bool) -> list[str]:
        """The parameters that are, to all appearances, at an edge, or still on their way to it."""
        return [name for name, change in self.changes(learned).items() if change > (EDGE if converged else ON_THE_WAY)]

    def look(self, learned: Learned, value: float, last: bool = False) -> None:
        """Raise where one has run away; `last`: where the ascent ends without having converged."""
        changes = self.changes(learned)
        name = max(changes, key=lambda n: changes[n], default="")
        if not name or changes[name] <= EDGE:
            return
        self.value = min(self.value, value)
        if (last or changes[name] > RUNAWAY) and value - self.value > 1.0:
            place = f" It has moved by {changes[name]:.1f}, unconstrained, and the bound was still rising."
            raise no_maximum(name, place, f"Parameter '{name}'.")
