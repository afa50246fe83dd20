"""Rules that move q uphill."""

from jensen.rules.gradient import Gradient
from jensen.rules.units import in_running_units

__all__ = ["Gradient", "in_running_units"]
