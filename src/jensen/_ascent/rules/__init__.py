"""Rules that move q uphill."""

from jensen._ascent.rules.gradient import Gradient
from jensen._ascent.rules.units import in_running_units

__all__ = ["Gradient", "in_running_units"]
