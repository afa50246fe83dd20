"""Exact sweeps over all rows of a source, extrapolated, with an account of what is still to gain."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jensen._conjugate.algebra import Moments, Naturals
from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._core import Progress
from jensen._data.sources import AbstractSource

FALLS = 3
SLOW = 0.3
"""At the first judgement sweeps must shrink a movement to less than this part of it."""
CYCLE = 3.0
"""At later ones all sweeps since the last must have gained less than so many times the tolerance: fast directions hide
slow ones from two movements, not from the extrapolation between."""


@dataclass(frozen=True)
class Polished:
    """The best state, its exact bound, and the gain that was still to come (nats).

    `reported` is the number of the last sweep that was reported: those of longer steps that were taken back are not.
    """

    moments: Moments
    naturals: Naturals
    elbo: float
    sweeps: int
    to_gain: float
    converged: bool
    reported: int


@dataclass
class _Pace:
    """How fast plain sweeps still rise, from the gains and movements of two in succession.

    Attributes:
        enough: the gain still to come that is left alone, in nats.
        last, moved: the bound and the movement of the sweep before; judged: the bound when it was last judged.
        to_gain: nats still to come; falls: how often the bound fell by more than its noise.
    """

    enough: float
    last: float | None = None
    moved: float = np.inf
    judged: float | None = None
    to_gain: float = np.inf
    falls: int = 0

    def settled(self, elbo: float, moved: float, noise: float, plain: bool) -> bool:
        """Whether nothing worth a sweep is to come; after an extrapolation (not `plain`) that cannot be told."""
        last, before, settled = self.last, self.moved, False
        self.last, self.moved = elbo, moved
        if plain and last is not None:
            gain = elbo - last
            ratio = min(max(moved / before, 0.0), 0.9999) if before > 0 else 0.0
            self.to_gain = max(gain, 0.0) * ratio / (1.0 - ratio)
            self.falls += gain < -noise
            slow = ratio > SLOW if self.judged is None else elbo - self.judged > CYCLE * self.enough
            settled = abs(gain) <= noise or (gain > 0 and self.to_gain < self.enough and not slow)
            self.judged = elbo
            if self.falls >= FALLS and -gain < self.enough:  # it wavers with local blocks that are iterated
                settled, self.to_gain = True, abs(gain)
        return settled


def polished(
    batches: Minibatches,
    source: AbstractSource,
    moments: Moments,
    naturals: Naturals,
    scalars: float,
    tolerance: float,
    most: int,
    write: Callable[[Naturals], Any],
    reported: int = 0,
) -> Generator[Progress, None, Polished]:
    """Sweeps until the gain still to come is below `tolerance` · `scalars` nats; at least two.

    A sweep multiplies the distance to the optimum by a factor that the ratio of successive movements
    D = KL(q ‖ q') + KL(q' ‖ q) gives; gains, being quadratic, shrink by r = D₂ / D₁, so that gain · r / (1 - r) is
    still to come. After every second sweep the natural parameters are extrapolated along the last two movements
    (Varadhan and Roland 2008, scheme S3); a point outside the domain, or below the bound so far, is taken back.
    `write` writes q down for whoever interrupts; sweeps up to number `reported` have been reported before.
    """
    best: Any = None
    pace = _Pace(tolerance * scalars)
    sweeps, path, plain = 0, [], False
    fallback: Any = None
    while True:
        sums = batches.whole(moments, source.whole())
        after_moments, after_naturals, bound, moved, inside = batches.update(moments, naturals, sums, 1.0)
        sweeps += 1
        elbo, moved = batches.finite(float(bound)), float(moved)
        batches.check_inside(np.asarray(inside), after_naturals)
        noise = batches.noise(elbo, scalars)
        if fallback is not None and elbo < best[0] + noise:
            (moments, naturals), fallback, path = fallback, None, []
            pace.last = None
            continue
        fallback, reported = None, reported + 1
        yield Progress("ascent", reported, elbo, partial(write, naturals))
        settled = pace.settled(elbo, moved, noise, plain)
        if best is None or elbo > best[0]:
            best = (elbo, moments, naturals)
        if settled or pace.falls >= FALLS or sweeps >= max(most, 2):
            return Polished(best[1], best[2], best[0], sweeps, pace.to_gain, settled, reported)
        path, plain = [*path, naturals][-2:], True
        if len(path) == 2:
            guess = jax.tree.map(np.asarray, _extrapolated(*path, after_naturals))
            guess_moments, ok = batches.moments_of(guess)
            if np.all(np.asarray(ok)):
                fallback = (after_moments, after_naturals)
                moments, naturals, path, plain = guess_moments, guess, [], False
                continue
            path = []
        moments, naturals = after_moments, after_naturals


def _extrapolated(first: Naturals, second: Naturals, third: Naturals) -> Naturals:
    """λ - 2 α r + α² v with r = λ' - λ, v = λ'' - 2 λ' + λ, α = -‖r‖ / ‖v‖ for every block; lengths are relative."""
    result = {}
    for name in first:
        parts = [jax.tree.map(np.asarray, at[name]) for at in (first, second, third)]
        keys = parts[0].keys()
        scale = {k: np.maximum(np.abs(parts[2][k]).max(initial=0.0), 1e-300) for k in keys}
        r = {k: parts[1][k] - parts[0][k] for k in keys}
        v = {k: parts[2][k] - parts[1][k] - r[k] for k in keys}
        top = sum(float(np.sum((r[k] / scale[k]) ** 2)) for k in keys)
        bottom = sum(float(np.sum((v[k] / scale[k]) ** 2)) for k in keys)
        alpha = -max(1.0, np.sqrt(top / bottom)) if bottom > 0 else -1.0
        result[name] = {k: parts[0][k] - 2 * alpha * r[k] + alpha**2 * v[k] for k in keys}
    return result
