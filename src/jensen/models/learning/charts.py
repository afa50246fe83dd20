"""Parameters in unconstrained coordinates, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._typing import Array
from jensen.models.learning.parameter import coordinates, value_at


@dataclass(frozen=True, eq=False)
class Charts:
    """The constraints of the parameters, by name."""

    supports: dict[str, Any]

    def values(self, points: Mapping[str, Any]) -> dict[str, Array]:
        """The parameters at these unconstrained values."""
        return {name: value_at(support, points[name]) for name, support in self.supports.items()}

    def points(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The unconstrained values of these parameters."""
        return {name: np.asarray(coordinates(support, values[name])) for name, support in self.supports.items()}
