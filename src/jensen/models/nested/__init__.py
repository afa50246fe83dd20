"""Nested approximations: few hyperparameters θ, and many latents z that are integrated out for every θ."""

from jensen.models.nested.build import integrated, on_chart, over_theta
from jensen.models.nested.emulated import EmulatedTarget
from jensen.models.nested.field_target import FieldTarget, generic
from jensen.models.nested.fields import bent, candidates, over_field, quadratic
from jensen.models.nested.layout import Layout
from jensen.models.nested.level import check_levels
from jensen.models.nested.model import NestedModel
from jensen.models.nested.search import find_groups
from jensen.models.nested.target import NestedTarget

__all__ = [
    "EmulatedTarget",
    "FieldTarget",
    "Layout",
    "NestedModel",
    "NestedTarget",
    "bent",
    "candidates",
    "check_levels",
    "find_groups",
    "generic",
    "integrated",
    "on_chart",
    "over_field",
    "over_theta",
    "quadratic",
]
