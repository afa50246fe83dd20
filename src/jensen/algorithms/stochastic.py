"""Stochastic ascent with averaged iterates, a step size found along the way, and a stop in posterior-sd units."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from jensen._typing import leaf
from jensen.algorithms.averaged import averaged, chosen, finite
from jensen.core import AbstractBound, AbstractEstimator, AbstractFamily, AbstractModel, Progress
from jensen.families import AbstractGaussian
from jensen.math.precision import float_type, working
from jensen.models import Target
from jensen.models.views import Affine, Unconstrained
from jensen.rules import Gradient


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


_ADAM = Gradient(optax.inject_hyperparams(optax.adam)(learning_rate=0.1))
"""One object for all fits, so that compiled steps are found again."""


@eqx.filter_jit
def _many(
    ascent: Ascent, model: AbstractModel, q: Any, state: Any, keys: jax.Array, batches: Any = None
) -> tuple[Any, Any, Any, Any]:
    """One step for each key; the last q, the state, the mean of the second half of the iterates and the bounds."""

    def one(q: Any, state: Any, key: Any, batch: Any) -> tuple[Any, Any, Any, Any]:
        new, value, new_state = ascent.step(model, q, state, key, batch)
        fine = finite(value, new)
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

    In those coordinates one unit is one posterior standard deviation, so the first step size (0.1) suits every model.
    At each step size chunks run until the bound no longer rises by more than twice its error; then the averages of two
    successive step sizes are compared (means in sd, log scales) and it ends when they agree to `tolerance`. Compare
    Welandawe et al. (2022), which models the same decay. Steps that are not finite are taken back. A target with a
    `subsample` is seen by batches of rows.
    """
    part = target.subsample
    epoch = 1 if part is None else part.epoch
    block = epoch if 4 * epoch <= chunk else 1  # batches differ by much more than passes over all of them
    rng = np.random.default_rng(seed)
    dtype = float_type(target.precision)
    shift, scale = np.asarray(start.loc, dtype), start.scales().astype(dtype)
    base = target.model if part is None else part.model
    model = Unconstrained(model=base, bijection=Affine(leaf(shift), leaf(scale)))
    q = start.affine(-shift / scale, 1.0 / scale, dtype)
    ascent = Ascent(bound, estimator, _ADAM)
    num_draws: int = getattr(estimator, "num_draws", 1)
    history: list[float] = []
    previous, rejected, change, chunks = None, 0, np.inf, 0
    with working(target.precision):
        key = jr.key(seed)
        state = ascent.rule.init(q)
    rate = 0.1
    while chunks < max_chunks:
        last = -np.inf
        average = q
        while chunks < max_chunks:
            with working(target.precision):
                key, sub = jr.split(key)
                state.hyperparams["learning_rate"] = np.asarray(rate, dtype)
                batches = None if part is None else part.batches(rng, chunk)
                done = _many(ascent, model, q, state, jr.split(sub, chunk), batches)
                q, state, average, (values, fine) = jax.device_get(done)
            chunks += 1
            target.gradients += chunk * num_draws
            rejected += int((~fine).sum())
            tail = np.asarray(values, float)[fine][chunk // 2 :]
            mean = float(tail.mean()) if len(tail) else -np.inf
            means = tail[: len(tail) // block * block].reshape(-1, block).mean(axis=1)
            error = float(means.std() / np.sqrt(len(means))) if len(means) else np.inf
            history.append(mean)
            yield Progress(phase, chunks * chunk, mean, average.affine(shift, scale))
            if mean < last + 2.0 * error or not np.isfinite(mean):
                break
            last = mean
        if previous is not None:
            spread = average.scales()
            moved = np.abs(np.asarray(average.loc) - np.asarray(previous.loc)) / spread
            change = float(max(moved.max(), np.abs(np.log(spread / previous.scales())).max()))
            if change < tolerance:
                return StochasticFit(average.affine(shift, scale), True, change, tuple(history), rejected)
        previous, q, rate = average, average, 0.5 * rate
    return StochasticFit(average.affine(shift, scale), False, change, tuple(history), rejected)
