"""Bounds on the log evidence, as functions of log importance weights."""

from jensen import _bounds
from jensen._bounds import *  # noqa: F403

__all__ = []
__all__ += _bounds.__all__
