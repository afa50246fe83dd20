"""The contracts: model, family, bound, estimator, rule, target, algorithm, check."""

from jensen import _core
from jensen._core import *  # noqa: F403

__all__ = []
__all__ += _core.__all__
