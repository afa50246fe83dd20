"""What the methods on R^D have in common: they work on one log density over unconstrained coordinates."""

from collections.abc import Mapping
from typing import Any

from jensen._core import AbstractAlgorithm
from jensen._math.precision import Precision
from jensen._model import Target, build


class AbstractContinuous(AbstractAlgorithm):
    """A method that fits a density over R^D."""

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> Target:
        """Latents, constrained or not, as one vector u ∈ R^D with the log density of T(u)."""
        return build(model, data, precision)
