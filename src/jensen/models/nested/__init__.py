"""Nested approximations: few hyperparameters θ, and many latents z that are integrated out for every θ."""

from jensen.models.nested.build import finer, integrated, on_chart, over_theta
from jensen.models.nested.layout import Layout
from jensen.models.nested.model import NestedModel
from jensen.models.nested.search import find_groups
from jensen.models.nested.target import NestedTarget

__all__ = ["Layout", "NestedModel", "NestedTarget", "find_groups", "finer", "integrated", "on_chart", "over_theta"]
