"""Estimators of a bound whose automatic gradient estimates the bound's gradient."""

from jensen import _estimators
from jensen._estimators import *  # noqa: F403
from jensen._hierarchical.nested_estimator import Nested

__all__ = []
__all__ += _estimators.__all__
__all__ += ["Nested"]
