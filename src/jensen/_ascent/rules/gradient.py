"""First-order steps with any optax optimiser."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import optax

from jensen._base.typing import Scalar
from jensen._core import AbstractFamily, AbstractRule


class Gradient(AbstractRule):
    """λ ← λ + update(∇_λ L), the ordinary gradient in the family's own unconstrained chart.

    `optimizer` is an optax transformation; it receives -∇L, because optax minimises.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)

    def init(self, q: AbstractFamily) -> Any:
        """The optimiser's state."""
        return self.optimizer.init(eqx.filter(q, eqx.is_inexact_array))

    def step(
        self, q: AbstractFamily, objective: Callable[[AbstractFamily], Scalar], state: Any
    ) -> tuple[AbstractFamily, Scalar, Any]:
        """One update; the value is that before the step."""
        value, gradient = eqx.filter_value_and_grad(lambda q: -objective(q))(q)
        updates, state = self.optimizer.update(gradient, state, eqx.filter(q, eqx.is_inexact_array))
        return eqx.apply_updates(q, updates), -value, state
