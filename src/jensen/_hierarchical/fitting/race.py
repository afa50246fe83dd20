"""Which start goes on: short runs from different places, some of them on a flattened posterior at first."""

from collections.abc import Generator
from typing import Any

import jax
import numpy as np

from jensen._ascent import moves
from jensen._base.typing import Array, leaf
from jensen._core import AbstractBijection, AbstractModel, Progress
from jensen._math.keys import fold_in, purpose_key
from jensen._model.native import NativeTarget

WAYS = ((1.0, 1.0), (3.0, 0.1), (2.0, 1.0), (4.0, 0.1))
"""(how far apart the components of λ begin, the power of p(x, z) that the run begins with), for each start in turn."""
PIECES, LENGTH = 6, 200
"""A run's pieces, each at one power, and the steps of a piece."""


class Tempered(AbstractModel):
    """p(x, z)^power: the flatter, the farther apart its modes may lie and still be found."""

    model: AbstractModel
    power: Array

    def __init__(self, model: AbstractModel, power: Array):
        self.model, self.power = model, power

    @property
    def bijection(self) -> AbstractBijection:  # type: ignore[override]
        """The model's."""
        return self.model.bijection

    def log_joint(self, latent: Any, batch: Any = None) -> dict[str, Array]:
        """The model's terms times the power."""
        return jax.tree.map(lambda term: self.power * term, dict(self.model.log_joint(latent, batch)))

    def constrain(self, point: Any) -> Any:
        """The model's."""
        return self.model.constrain(point)


class Flattened:
    """What the ascent asks of a target, at a power that can be changed between its programs' calls.

    Where parameters are learned with q the model stays as it is: at another power they would be others.
    """

    def __init__(self, target: NativeTarget, learning: bool):
        self.target, self.learning, self.power = target, learning, 1.0

    @property
    def step_model(self) -> Any:
        """The model at the present power."""
        model = self.target.step_model
        return model if self.learning else Tempered(model, leaf(np.asarray(self.power)))

    def rows(self, key: Any, count: int) -> Any:
        """The target's batches."""
        return self.target.rows(key, count)

    @property
    def gradients(self) -> int:
        """Counted by the target."""
        return self.target.gradients

    @gradients.setter
    def gradients(self, count: int) -> None:
        self.target.gradients = count

    def raise_failure(self) -> None:
        """The target's."""
        self.target.raise_failure()


def race(
    steps: moves.Chunks, view: Flattened, starts: list[Any], rate: float, seed: int
) -> Generator[Progress, None, tuple[Any, tuple[float, ...]]]:
    """(the best of the starts, the bounds reached), by the bound on fresh draws.

    A bound that is tight nowhere near a second mode has no slope towards it (q covers one mode and is content), so
    some runs begin on p^power with its modes drawn together, and end on p (Katahira, Watanabe and Okada 2008).
    """
    if len(starts) == 1:
        return starts[0], ()
    found = []
    for index, begin in enumerate(starts):
        q, state, average = begin, moves.fresh(begin), begin
        key = purpose_key(seed, f"start {index}")
        for piece, power in enumerate(np.geomspace(WAYS[index % len(WAYS)][1], 1.0, PIECES)):
            view.power = float(power)
            q, state, average, _, _ = steps(q, rate, state, fold_in(key, piece), LENGTH)
        _, _, _, values, fine = steps(average, 0.0, moves.fresh(average), fold_in(key, PIECES), LENGTH)
        reached = float(values[fine].mean()) if fine.mean() > 0.5 else -np.inf
        found.append((reached, index, average))
        yield Progress("start", index + 1, reached, average)
    found.sort(key=lambda item: -item[0])
    return found[0][2], tuple(item[0] for item in found)


def spread(index: int) -> float:
    """How far apart the components of λ begin in start `index`, in units of the factors' information."""
    return WAYS[index % len(WAYS)][0]


__all__ = ["Flattened", "Tempered", "race", "spread"]
