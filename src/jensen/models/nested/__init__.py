"""Nested approximations: few hyperparameters θ, and many latents z that are integrated out for every θ."""

from jensen.models.nested.build import integrated, nodes_of, over_theta
from jensen.models.nested.layout import Layout
from jensen.models.nested.model import NestedModel
from jensen.models.nested.search import find_groups

__all__ = ["Layout", "NestedModel", "find_groups", "integrated", "nodes_of", "over_theta"]
