"""Rules that move q uphill."""

from jensen.rules.gradient import Gradient

__all__ = ["Gradient"]
