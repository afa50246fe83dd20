"""Nested approximations: few hyperparameters θ, and many latents z that are integrated out for every θ."""

from jensen._nested.build import integrated, on_chart, over_theta
from jensen._nested.emulated import EmulatedTarget
from jensen._nested.field_target import FieldTarget, generic
from jensen._nested.fields import bent, candidates, over_field, quadratic
from jensen._nested.layout import Layout
from jensen._nested.level import check_levels
from jensen._nested.model import NestedModel
from jensen._nested.search import find_groups
from jensen._nested.target import NestedTarget

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
