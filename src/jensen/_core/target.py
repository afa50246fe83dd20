"""What a method works on: a model with its data, checked and analysed."""

from typing import Any

from jensen._base.typing import Terms


class AbstractTarget:
    """What `AbstractAlgorithm.prepare` makes of a model and its data, and `run` works on.

    Attributes:
        gradients, values: evaluations of the log density so far, with and without gradient.
    """

    gradients: int = 0
    values: int = 0

    def terms(self, point: Any) -> Terms:
        """Elementwise log densities of every site at a point of R^D, in nats; nothing without such a density."""
        del point
        return {}
