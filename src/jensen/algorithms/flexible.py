"""Flows and mixtures on R^D: where a Gaussian leaves off."""

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._typing import leaf
from jensen.algorithms.blackbox import ascent
from jensen.algorithms.hierarchical.moments import Plain
from jensen.bounds import ELBO
from jensen.core import Progress, total
from jensen.estimators import StickingTheLanding, Stratified
from jensen.families import AbstractGaussian, Flow, FullRank, Mixture
from jensen.math.keys import split
from jensen.math.precision import float_type, working
from jensen.math.programs import Program
from jensen.math.reckoning import MULTIPLIED
from jensen.models import Target
from jensen.models.views import Linear, Unconstrained

CHUNK = 300
"""Steps between two looks."""
FIRST_STEP = 0.05
"""Step size at first, in whitened coordinates, of families that do not ask for a smaller one."""
SAME = 1e-3
"""Relative difference of two computations of one log density from which on neither counts."""


class Free(Plain):
    """Any density over R^D whose draws are reparameterised; whitened coordinates, so that one unit is one sd."""

    def apart(self, a: Any, b: Any) -> float:
        """Means in sds and log sds, from the same noise; both are smooth in the parameters."""
        first, second = (np.asarray(Program(_points)(q, split(jr.key(0), 2048)), float) for q in (a, b))
        sd = np.maximum(second.std(axis=0), 1e-12)
        means = np.abs(first.mean(axis=0) - second.mean(axis=0)) / sd
        scales = np.abs(np.log(np.maximum(first.std(axis=0), 1e-300) / sd))
        return float(max(means.max(), scales.max()))


def _points(q: Any, keys: Any) -> Any:
    return jax.lax.map(lambda key: q.draw(key).value, keys, batch_size=256)


def _log_probs(q: Any, points: Any) -> Any:
    return jax.lax.map(q.log_prob, points, batch_size=256)


def _scored(q: Any, keys: Any) -> Any:
    def one(key: Any) -> Any:
        draw = q.draw(key)
        return draw.value, total(draw.log_prob), q.log_prob(draw.value)

    return jax.lax.map(one, keys, batch_size=256)


def scored_draws(q: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of q, (count, D), and log q there in nats.

    Not a number where the density of a draw on its way out differs from that found on the way back: a flow that has
    become too steep for the working precision has no density that could be relied on.
    """
    if isinstance(q, Mixture):
        points = q.host_draws(count, seed)
        return points, q.host_log_prob(points)
    found = Program(_scored)(q, split(jr.key(seed), count))
    points, out, back = (np.asarray(x, float) for x in jax.device_get(found))
    with np.errstate(invalid="ignore"):
        same = np.abs(out - back) < SAME * (1.0 + np.abs(out))
    return points, np.where(same, out, np.nan)


def draws(q: Any, count: int, seed: int) -> np.ndarray:
    """Points of q, (count, D)."""
    if isinstance(q, Mixture):
        return q.host_draws(count, seed)
    return np.asarray(jax.device_get(Program(_points)(q, split(jr.key(seed), count))), float)


def log_probs(q: Any, points: np.ndarray) -> np.ndarray:
    """log q at points, in nats."""
    if isinstance(q, Mixture):
        return q.host_log_prob(np.asarray(points, float))
    return np.asarray(jax.device_get(Program(_log_probs)(q, jnp.asarray(points))), float)


@dataclass
class _View:
    """What the ascent asks of a target."""

    model: Any
    gradients: int = 0

    @property
    def step_model(self) -> Any:
        """The density itself."""
        return self.model

    def rows(self, key: Any, count: int) -> None:
        """Steps are on all rows."""

    def raise_failure(self) -> None:
        """Nothing runs outside JAX."""


def ascend(
    target: Target, start: Any, around: AbstractGaussian, seed: int, phase: str, max_chunks: int = 40
) -> Generator[Progress, None, ascent.BlackBoxFit]:
    """Path derivatives on fresh draws, in coordinates whitened by `around`; a mixture draws from every component.

    Where coordinates depend on each other closely, a step that is small in each one's own sd is not small in all
    together, so the whitening is by the whole covariance wherever the family is closed under it.
    """
    dtype = float_type(target.precision)
    shift, factor = np.asarray(around.loc, float), around.factor()
    if getattr(start, "scaled_only", False):
        factor = np.diag(around.scales())
    back = np.linalg.inv(factor)
    bijection = Linear(leaf(shift.astype(dtype)), leaf(factor.astype(dtype)))
    view = _View(Unconstrained(model=target.model, bijection=bijection))
    strata = getattr(start, "num_strata", 1)
    estimator: Any = Stratified(StickingTheLanding(8)) if strata > 1 else StickingTheLanding(16)
    with working(target.precision):
        q = jax.tree.map(lambda x: jnp.asarray(x, dtype), start.linear(-back @ shift, np.tril(back)))
        # Steps are many operations on few numbers: from the first chunk on most of the time goes into running them.
        chunks = ascent.Chunks(view, estimator, ELBO(), Free(), quick=0, heavy="middle")  # type: ignore[arg-type]
        run = ascent.ascend(
            chunks,
            q,
            jr.key(seed),
            rate=getattr(start, "first_step", FIRST_STEP),
            chunk=CHUNK,
            max_chunks=max_chunks,
            tolerance=0.05,
            phase=phase,
            patience=2,
        )
        fit = yield from _unscaled(run, shift, factor)
    target.gradients += view.gradients * strata
    return dataclasses.replace(fit, q=fit.q.linear(shift, factor))


def seconds(target: Target, components: int) -> float:
    """What `CHUNK` steps of a mixture take: its own densities, a component's draws at all others, and the target's."""
    draws = 8 * components * CHUNK
    return target.price.seconds(draws, CHUNK) + 3.0 * MULTIPLIED * draws * components * target.dim**2


def _unscaled(run: Any, shift: np.ndarray, factor: np.ndarray) -> Any:
    """The reports with q in the model's own coordinates, written down only when asked for."""
    while True:
        try:
            item = next(run)
        except StopIteration as stop:
            return stop.value
        yield dataclasses.replace(item, q=lambda q=item.q: q.linear(shift, factor))


def flow_from(q: FullRank, seed: int) -> Flow:
    """A spline coupling flow that begins at this Gaussian."""
    return Flow.around(q, layers=4 if q.dim > 2 else 6, seed=seed)


def mixture_from(parts: list[FullRank], log_weights: np.ndarray, count: int, seed: int) -> Mixture:
    """A component at each of `parts`; further ones around them at random, until there are `count`."""
    rng = np.random.default_rng(seed)
    shares = np.exp(log_weights - np.logaddexp.reduce(log_weights))
    found, logs = list(parts), list(np.log(np.maximum(shares, 1e-6)))
    while len(found) < max(count, 2):
        which = int(rng.choice(len(parts), p=shares))
        factor = parts[which].factor()
        found.append(
            FullRank.from_factor(np.asarray(parts[which].loc) + factor @ rng.normal(size=parts[which].dim), factor)
        )
        logs.append(logs[which] - 1.0)
    return jax.tree.map(jnp.asarray, Mixture.of(found, np.array(logs)))
