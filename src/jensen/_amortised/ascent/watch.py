"""Parameters that leave their start for the edge of their range, where the bound has no maximum."""

import numpy as np

from jensen._amortised.model import RowTarget
from jensen._amortised.row_estimator import Learned
from jensen._conjugate.coordinate.refusals import no_maximum
from jensen._program.bijection import on_the_line

ON_THE_WAY, EDGE, RUNAWAY = 5.0, 8.0, 25.0
"""Changes of an unconstrained coordinate: worth a word where the ascent did not converge; at the edge; run away."""


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
