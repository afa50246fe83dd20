"""A model that holds its data."""

from typing import Any

import equinox as eqx

from jensen._core import AbstractModel
from jensen._program.bijection import AbstractChart
from jensen._program.static_arguments import Frozen


class AbstractWithData(AbstractModel):
    """`data` are arrays that compiled programs take as arguments; `fixed` are constants of them.

    These are the arguments that a model needs as concrete Python values: sizes, flags, strings, and arrays that it
    inspects while it builds the graph.
    """

    data: dict[str, Any]
    fixed: Frozen = eqx.field(static=True)
    bijection: AbstractChart

    @property
    def kwargs(self) -> dict[str, Any]:
        """All of the data, as the program takes them."""
        return {**self.data, **self.fixed.value}

    @property
    def constants(self) -> dict[str, Any]:
        """The fixed arguments."""
        return self.fixed.value
