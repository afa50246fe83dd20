"""Over-relaxed sweeps: longer steps along the last one, taken only where the exact bound has risen."""

from dataclasses import dataclass, replace

import jax
import numpy as np

from jensen._conjugate.algebra import Naturals
from jensen._conjugate.coordinate.ascent import Ascent, State

GROWTH = 1.2
LONGEST = 100.0
WAIT = 5
"""Strides of plain sweeps before the first longer step: short ascents need none, and no program for it."""
CONFIRMED = 3
"""Plain sweeps on which the end of an ascent is judged."""


@dataclass
class StepLength:
    """The factor ω of λ + ω (λ' - λ), where λ' is a sweep from λ: it grows until a step fails, then falls to √ω.

    Adaptive over-relaxation (Salakhutdinov and Roweis 2003, algorithm 1), in natural parameters. A sweep multiplies an
    error by 1 - s, with s small along directions in which blocks or rows depend strongly on each other; the longer
    step multiplies it by 1 - ω s. Starting again from one, as published, spends most sweeps on short steps: the root
    needs a fifth fewer sweeps to the same bound (the mean over six data sets of `benchmarks/gmm.py`).
    """

    length: float = 1.0

    def beyond(self, before: Naturals, after: Naturals) -> Naturals:
        """λ + ω (λ' - λ), ω grown by one step; on the host, where nothing is compiled."""
        self.length = min(GROWTH * self.length, LONGEST)

        def moved(old: object, new: object) -> np.ndarray:
            first, second = np.asarray(old), np.asarray(new)
            return first + self.length * (second - first)

        return jax.tree.map(moved, before, after)

    def failed(self) -> None:
        """Halve the way to a plain sweep, in logarithms."""
        self.length **= 0.5


class Climb:
    """Sweeps of an ascent, over-relaxed once it has run for a while, and whether they have settled.

    A longer step is followed by a plain sweep, whose exact bound decides: below the bound so far, the step is dropped
    and the ascent goes on where it was, at the price of that sweep. So every state is the result of a plain sweep, its
    gains audited, and the bound never falls.
    """

    def __init__(self, ascent: Ascent, tolerance: float):
        self.ascent, self.tolerance = ascent, tolerance
        self.step = StepLength()
        self.before: Naturals | None = None
        self.strides, self.plain, self.holding = 0, CONFIRMED, False

    def advance(self, state: State, most: int) -> State:
        """One stride, of at most `most` sweeps."""
        count = min(self.ascent.stride, most)
        self.strides += 1
        if self.before is not None and self.strides > WAIT and not self.holding and count < most:
            guess = self.step.beyond(self.before, state.naturals)
            found = self.ascent.resumed(guess, state, count)
            if found is not None and found.elbo > state.elbo:
                self.before, self.plain = guess, 0
                return state.onward(found, count)
            self.step.failed()
            self.before = None
            if found is not None:
                return replace(state, extra=state.extra + count)
        self.before, self.plain = state.naturals, self.plain + count
        return self.ascent.advance(state, count)

    def settled(self, state: State) -> bool:
        """Whether the gain still to come is negligible, judged on plain sweeps."""
        if not self._negligible(state):
            self.holding = False
            return False
        self.holding = True
        return self.plain >= CONFIRMED

    def _negligible(self, state: State) -> bool:
        """Whether gain · r / (1 - r), with r the ratio of the last two gains, is below the tolerance."""
        if len(state.history) < 3:
            return False
        last, before = state.history[-1] - state.history[-2], state.history[-2] - state.history[-3]
        if last <= self.ascent.noise(state.elbo):
            return True
        ratio = min(last / before, 0.9999) if before > 0 else 0.9999
        return last / (1.0 - ratio) < self.tolerance * self.ascent.model.rows
