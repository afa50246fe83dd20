"""Contract 4, the estimator: a scalar whose gradient by automatic differentiation estimates the bound's gradient."""

import abc
from typing import Any

import equinox as eqx

from jensen._base.typing import PRNGKey, Scalar
from jensen._core.bound import AbstractBound
from jensen._core.family import AbstractFamily
from jensen._core.model import AbstractModel


class AbstractEstimator(eqx.Module):
    """How the expectation under q is replaced by something computable.

    `linear_only` says that it is unbiased only for bounds that are linear in the log weights.
    """

    linear_only: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def __call__(
        self, bound: AbstractBound, model: AbstractModel, q: AbstractFamily, batch: Any, key: PRNGKey
    ) -> Scalar:
        """An estimate of the bound at q in nats, differentiable in q."""
