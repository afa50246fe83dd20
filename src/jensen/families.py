"""Approximations q: Gaussians on the unconstrained space, and their push-forward onto the latents' support."""

from jensen import _families
from jensen._families import *  # noqa: F403

__all__ = []
__all__ += _families.__all__
