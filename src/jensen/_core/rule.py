"""Contract 5, the rule: one step of q, given the objective as a function of q."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx

from jensen._base.typing import Scalar
from jensen._core.family import AbstractFamily


class AbstractRule(eqx.Module):
    """A way to move q uphill; it chooses the coordinates in which to differentiate."""

    @abc.abstractmethod
    def init(self, q: AbstractFamily) -> Any:
        """The rule's state before the first step."""

    @abc.abstractmethod
    def step(
        self, q: AbstractFamily, objective: Callable[[AbstractFamily], Scalar], state: Any
    ) -> tuple[AbstractFamily, Scalar, Any]:
        """(new q, objective at the old q, new state)."""
