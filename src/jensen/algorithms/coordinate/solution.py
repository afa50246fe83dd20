"""Where a coordinate method ended: q, written down as far as it is asked for."""

import equinox as eqx
import numpy as np

from jensen.algorithms.coordinate.ascent import Ascent, State
from jensen.algorithms.coordinate.plated import PlatedAscent
from jensen.families.exponential import Product
from jensen.math.precision import Precision, working
from jensen.models.conjugacy import ConjugateTarget, Moments, Naturals
from jensen.models.conjugacy.plates import PlateSplit, split


class Solution(eqx.Module):
    """q(z) = Π_j q_j(z_j), the factors of a streamed plate left implicit.

    Those factors are functions of the others (each is optimal given them), and there may be millions.

    Attributes:
        naturals: natural parameters of the blocks that the ascent held.
        carried: moments of local blocks that were carried from sweep to sweep, where they are known.
        target: the model. parts: its streamed plate, if there is one.
    """

    naturals: Naturals
    carried: Moments
    target: ConjugateTarget = eqx.field(static=True)
    parts: PlateSplit | None = eqx.field(static=True, default=None)

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.target.precision

    def __repr__(self) -> str:
        return f"Solution({', '.join(self.naturals)})"

    def held(self) -> Product:
        """The factors that the ascent held, as a product."""
        factors = {name: self.target.model.factor(name, natural) for name, natural in self.naturals.items()}
        blocks = self.target.model.blocks
        return Product(factors, tuple((name, blocks[name].sites) for name in factors))

    def product(self) -> Product:
        """The whole of q; for a streamed plate, memory for every row's factor."""
        with working(self.precision):
            if self.parts is None:
                return self.target.model.product(self.naturals)
            moments = {name: factor.mean_params() for name, factor in self.held().factors.items()}
            local = PlatedAscent(self.parts).local_naturals({**moments, **self.carried})
            return self.target.model.product({**self.naturals, **local})

    def arrays(self) -> dict[str, np.ndarray]:
        """The natural parameters as flat names: `block/statistic`."""
        return {
            f"{name}/{key}": np.asarray(value)
            for name, natural in self.naturals.items()
            for key, value in natural.items()
        }


def solution(ascent: Ascent, state: State, target: ConjugateTarget) -> Solution:
    """The solution at a state of an ascent."""
    naturals = {name: state.naturals[name] for name in ascent.order}
    parts = ascent.parts if isinstance(ascent, PlatedAscent) else None
    if parts is not None and ascent.model.layout.row_precision == "single":
        parts = split(ascent.model, parts.plate)  # answers are in double precision
    carried = {name: state.moments[name] for name in (parts.carried if parts else ()) if name in state.moments}
    return Solution(naturals, carried, target, parts)
