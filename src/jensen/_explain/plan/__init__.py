"""What jensen sees in a model before it fits: the analysed sites, and what the default method will do with them."""

from jensen._explain.plan.explain import explain
from jensen._explain.plan.plan import Plan, Row
from jensen._explain.plan.words import describe_chart, describe_support

__all__ = ["Plan", "Row", "describe_chart", "describe_support", "explain"]
