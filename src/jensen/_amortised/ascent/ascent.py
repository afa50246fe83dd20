"""Stochastic ascent over minibatches of rows: step sizes raced for and cut, iterates averaged."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._amortised.ascent.steps import Climb, Steps
from jensen._amortised.ascent.watch import Watch
from jensen._amortised.row_estimator import Learned
from jensen._base.errors import ModelError
from jensen._core import Progress

RATES, FURTHER = (0.03, 0.01, 0.003, 0.001), 4
"""Step sizes that are tried for a chunk of steps each, and chunks more for the best two."""
CUT = 1.0 / 3.0
"""What a step size is multiplied with when the bound has stopped rising."""
LEAST_RATE = 1e-6
WINDOW, PATIENCE = 3, 10
"""Chunks whose mean is compared with that of as many before; looks at held-out rows without a new best."""


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


def _nowhere_finite(plate: str) -> ModelError:
    return ModelError(
        "The bound is not finite at the starting values.",
        f"Plate '{plate}'.",
        "Start parameters closer to plausible values, and scale the data to about one.",
    )


def ascend(
    steps: Steps,
    learned: Any,
    measure: Callable[[Learned], float],
    watch: Watch,
    max_epochs: int,
    tolerance: float,
    early: bool = False,
) -> Generator[Progress, None, Ascended]:
    """Stages of falling step sizes, each from the average of the one before.

    The first step size is the best of `RATES` over one chunk each, the best two being compared over `FURTHER` ones: the
    larger of them may end where the latents say nothing of their rows, which a smaller one avoids. A stage ends when
    the mean bound of its latest chunks no longer rises beyond their scatter, or after half of the epochs that are left.
    It has converged when two stages in a row gain less than `tolerance` nats a row, on fixed draws, over the best
    before. With `early` a stage also ends when `measure`, then that of held-out rows, has not risen for `PATIENCE`
    chunks, and gives back its best.

    From the second stage on q(β) moves by natural gradients where the family's form says so. Earlier they would take it
    to the optimum for an encoder that has learned nothing yet: the scale of the rows' latents falls, and stays low.
    """
    size = steps.target.size
    climb, number, rejected = yield from _raced(steps, learned, max_epochs)
    best, best_bound = learned, measure(learned)
    if (reached := measure(climb.average)) > best_bound or not np.isfinite(best_bound):
        best, best_bound = climb.average, reached
    gain, still = np.inf, 0
    while steps.epochs < max_epochs:
        until = steps.epochs + max(0.5 * (max_epochs - steps.epochs), steps.count * steps.batch / size)
        means: list[float] = []
        highest, held = Highest(best, best_bound), rejected
        while steps.epochs < until:
            number += 1
            climb = climb.after(steps, number)
            rejected += climb.rejected
            means.append(climb.mean)
            yield Progress("ascent", number * steps.count, means[-1], climb.average, f"epoch {steps.epochs:.0f}")
            watch.look(climb.current, means[-1])
            if early:
                highest = highest.after(climb.average, measure(climb.average))
            if not np.isfinite(means[-1]) or not _rising(means) or highest.since == PATIENCE:
                break
        average, reached = (highest.learned, highest.bound) if early else (climb.average, measure(climb.average))
        if not np.isfinite(reached) and not np.isfinite(best_bound):
            raise _nowhere_finite(steps.target.plate)
        gain = (reached - best_bound) / size
        if reached > best_bound or not np.isfinite(best_bound):
            best, best_bound = average, reached
        moved = rejected - held < 0.5 * len(means) * steps.count  # a stage whose steps were taken back says nothing
        still = still + 1 if gain < tolerance and moved else 0
        if still == 2:
            return Ascended(best, best_bound, gain, True, steps.epochs, climb.rate, rejected)
        climb = Climb.at(best, CUT * climb.rate, natural=True)
        if climb.rate < LEAST_RATE:
            break
    watch.look(best, best_bound, last=True)
    return Ascended(best, best_bound, gain, False, steps.epochs, climb.rate, rejected)


def _raced(steps: Steps, learned: Any, max_epochs: int) -> Generator[Progress, None, tuple[Climb, int, int]]:
    """(the climb of the best step size, number of its last chunk, steps that were rejected).

    Two climbs go on side by side while no more than a third of the epochs is spent.
    """
    climbs, rejected = [], 0
    for rate in RATES:
        climbs.append(Climb.at(learned, rate).after(steps, 0))
        rejected += climbs[-1].rejected
        yield Progress("step size", len(climbs), climbs[-1].reached, climbs[-1].average, f"rate {rate:g}")
    best = sorted(climbs, key=lambda c: (c.reached, c.rate), reverse=True)[:2]
    number, chunk = 0, steps.count * steps.batch / steps.target.size
    while number < FURTHER and steps.epochs + 2 * chunk <= max_epochs / 3:
        number += 1
        best = [climb.after(steps, number) for climb in best]
        rejected += sum(climb.rejected for climb in best)
        high = max(best, key=lambda c: c.reached)
        yield Progress("step size", len(climbs) + number, high.reached, high.average, f"rate {high.rate:g}")
    return max(best, key=lambda c: c.reached), number, rejected


def _rising(means: list[float]) -> bool:
    """Whether the latest chunks lie above those before by more than their scatter explains."""
    h = max(WINDOW, len(means) // 4)
    if len(means) < 2 * h:
        return True
    values = np.array(means)
    rise = values[-h:].mean() - values[-2 * h : -h].mean()
    noise = np.diff(values[-2 * h :]).std() / np.sqrt(2.0)
    return bool(rise > 2.0 * noise * np.sqrt(2.0 / h))
