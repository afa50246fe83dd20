"""What jensen sees in a model before it fits: the analysed sites, and what the default method will do with them."""

from jensen.plan.explain import explain
from jensen.plan.plan import Plan, Row
from jensen.plan.words import describe_chart, describe_support

__all__ = ["Plan", "Row", "describe_chart", "describe_support", "explain"]
