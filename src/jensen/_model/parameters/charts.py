"""Parameters in unconstrained coordinates, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._base.typing import Array
from jensen._model.parameters.parameter import coordinates, value_at


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


def at_edge(names: list[str]) -> str:
    """A sentence on parameters that ended far from their start."""
    if not names:
        return ""
    return f" The bound is highest at, or without end towards, the edge of the range of {', '.join(map(repr, names))}."
