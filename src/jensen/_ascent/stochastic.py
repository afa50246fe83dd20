"""Stochastic ascent with averaged iterates, a step size found along the way, and a stop in posterior-sd units."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from jensen._ascent.averaged_steps import averaged, chosen, finite
from jensen._ascent.rules import Gradient, in_running_units
from jensen._base.typing import leaf
from jensen._core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel, Progress
from jensen._families import AbstractGaussian
from jensen._math.keys import pair, split
from jensen._math.precision import float_type, working
from jensen._model import Target
from jensen._model.views import Affine, Unconstrained


class Ascent(eqx.Module):
    """Bound, estimator and rule: one stochastic step of any variational method."""

    bound: AbstractBound
    estimator: AbstractEstimator
    rule: Gradient

    def step(
        self, model: AbstractModel, q: AbstractFamily, state: Any, key: jax.Array, batch: Any = None
    ) -> tuple[Any, Any, Any]:
        """(new q, bound at the old q, new state)."""
        return self.rule.step(q, lambda family: self.estimator(self.bound, model, family, batch, key), state)


_ADAM = Gradient(
    optax.inject_hyperparams(lambda learning_rate: optax.chain(in_running_units(), optax.adam(learning_rate)))(
        learning_rate=0.1
    )
)
"""One object for all fits, so that compiled steps are found again."""

FIRST = 0.1
"""The first step size, in standard deviations."""
FAR = 1.0
"""Log ratio of a standard deviation to the unit of its coordinate from which on the units are chosen anew."""
STILL = 1e-3
"""Movement in a chunk, in step sizes, below which q stands still."""


@eqx.filter_jit
def _many(
    ascent: Ascent, model: AbstractModel, q: Any, state: Any, keys: jax.Array, batches: Any = None
) -> tuple[Any, Any, Any, Any]:
    """One step for each key; the last q, the state, the mean of the second half of the iterates and the bounds."""

    def one(q: Any, state: Any, key: Any, batch: Any) -> tuple[Any, Any, Any, Any]:
        new, value, new_state = ascent.step(model, q, state, key, batch)
        fine = finite(value, (new, new_state))
        return *chosen(fine, (new, new_state), (q, state)), value, fine

    q, state, average, values, fine = averaged(one, q, state, keys, batches)
    return q, state, average, (values, fine)


@dataclass(frozen=True)
class StochasticFit:
    """Result of `ascend`: the averaged q, the last change between step sizes in posterior sd, and the bounds."""

    q: AbstractGaussian
    converged: bool
    shift: float
    bounds: tuple[float, ...]
    rejected: int


class _Scaled:
    """Adam from some q, in coordinates scaled by it: one unit is one of its standard deviations."""

    def __init__(self, target: Target, ascent: Ascent, q: AbstractGaussian):
        self.target, self.ascent, self.dtype = target, ascent, float_type(target.precision)
        self.shift, self.scale = np.asarray(q.loc, self.dtype), q.scales().astype(self.dtype)
        base = target.model if target.subsample is None else target.subsample.model
        self.model = Unconstrained(model=base, bijection=Affine(leaf(self.shift), leaf(self.scale)))
        self.q = q.affine(-self.shift / self.scale, 1.0 / self.scale, self.dtype)
        with working(target.precision):
            self.state = ascent.rule.init(self.q)

    def __call__(self, rate: float, keys: jax.Array, batches: Any) -> tuple[AbstractGaussian, np.ndarray, bool]:
        """The average of a chunk in the model's coordinates, its bounds, and whether q could move.

        A bound is NaN where its step was not finite and taken back.
        """
        before = jax.tree.leaves(self.q)
        with working(self.target.precision):
            self.state.hyperparams["learning_rate"] = np.asarray(rate, self.dtype)
            done = _many(self.ascent, self.model, self.q, self.state, keys, batches)
            self.q, self.state, average, (values, fine) = jax.device_get(done)
        after = jax.tree.leaves(self.q)
        moved = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(after, before, strict=True))
        pulled = bool(self.state.inner_state[0].seen)  # some gradient was not zero
        free = fine.mean() > 0.5 and bool(moved > STILL * rate or not pulled)
        values = np.where(fine, np.asarray(values, float), np.nan)
        return average.affine(self.shift, self.scale), values, free

    def far(self) -> bool:
        """Whether q has left the units of its coordinates behind."""
        spread = self.q.scales()
        return bool((np.abs(np.log(spread)) > FAR).any() or (np.abs(np.asarray(self.q.loc)) > 10.0 * spread).any())

    def anew(self) -> "_Scaled":
        """The same q in units of its own, with an optimiser that remembers nothing."""
        return _Scaled(self.target, self.ascent, self.q.affine(self.shift, self.scale))


def _latter_half(values: np.ndarray, block: int) -> tuple[float, float, float]:
    """(mean, middle, error of the middle) of a chunk's bounds, its first half left out and `block`s taken together."""
    tail = values[len(values) // 2 :]
    tail = tail[~np.isnan(tail)]
    middle, error = _middle(tail[: len(tail) // block * block].reshape(-1, block).mean(axis=1))
    return float(tail.mean()) if len(tail) else -np.inf, middle, error


def ascend(
    target: Target,
    start: AbstractGaussian,
    bound: AbstractBound,
    estimator: AbstractEstimator,
    seed: int,
    *,
    chunk: int = 200,
    max_chunks: int = 60,
    tolerance: float = 0.05,
    phase: str = "stochastic",
) -> Generator[Progress, None, StochasticFit]:
    """Adam on fresh draws in coordinates scaled by the starting q, halving the step size until the average settles.

    In those coordinates one unit is one posterior standard deviation, so the first step size (0.1) suits every model;
    where q has come far they are chosen anew. At each step size the optimiser starts afresh and chunks run until the
    bound no longer rises by more than twice its error, both by medians; then the averages of two successive step sizes
    are compared (means in sd, log scales). Where they agree to `tolerance`, and q could move, it all starts again from
    there at the first step size: small steps also agree on a slope that is long and gentle. It ends where both times
    led to the same q. Compare Welandawe et al. (2022), which models the same decay. Steps that are not finite are taken
    back. A target with a `subsample` is seen by batches of rows.
    """
    part = target.subsample
    epoch = 1 if part is None else part.epoch
    block = epoch if 4 * epoch <= chunk else 1  # batches differ by much more than passes over all of them
    rng = np.random.default_rng(seed)
    steps = _Scaled(target, Ascent(bound, estimator, _ADAM), start)
    num_draws: int = getattr(estimator, "num_draws", 1)
    history: list[float] = []
    average, previous, settled, rejected, change, chunks, rate = start, None, None, 0, np.inf, 0, FIRST
    with working(target.precision):
        key = jr.key(seed)
    while chunks < max_chunks:
        last, free = -np.inf, False
        while chunks < max_chunks:
            with working(target.precision):
                key, sub = pair(key)
                keys = split(sub, chunk)
            average, values, free = steps(rate, keys, None if part is None else part.batches(rng, chunk))
            chunks += 1
            target.gradients += chunk * num_draws
            rejected += int(np.isnan(values).sum())
            reached, middle, error = _latter_half(values, block)
            history.append(reached)
            yield Progress(phase, chunks * chunk, history[-1], average)
            far = steps.far()
            if far:
                steps = steps.anew()
            if not np.isfinite(middle) or (middle <= last + 2.0 * error and not far):
                break
            last = middle
        previous, rate, change = average, 0.5 * rate, np.inf if previous is None else apart(average, previous)
        if change < tolerance and free:
            change = np.inf if settled is None else max(change, apart(average, settled))
            if change < tolerance:
                return StochasticFit(average, True, change, tuple(history), rejected)
            previous, settled, rate = None, average, FIRST
        steps = _Scaled(target, steps.ascent, average)
    return StochasticFit(average, False, change, tuple(history), rejected)


def describe(fit: StochasticFit) -> str:
    """Why the ascent stopped, in a sentence."""
    if fit.converged:
        return f"Averages at two step sizes, and of a second run from there, agree to {fit.shift:.2g} posterior sd."
    return "Stopped at the step limit; averages at two step sizes, or of a second run from there, do not agree."


def apart(a: AbstractGaussian, b: AbstractGaussian) -> float:
    """The largest difference of means, in sds of `a`, and of log sds."""
    spread = a.scales()
    means = np.abs(np.asarray(a.loc) - np.asarray(b.loc)) / spread
    return float(max(means.max(), np.abs(np.log(spread / b.scales())).max()))


def _middle(values: np.ndarray) -> tuple[float, float]:
    """The median and its standard error: bounds on draws far out have no usable mean."""
    if not len(values):
        return -np.inf, np.inf
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(1.25 * (high - low) / 1.35 / np.sqrt(len(values)))
