"""Bounds on the log evidence, as functions of log importance weights."""

from jensen.bounds.chi import ChiUpper
from jensen.bounds.elbo import ELBO
from jensen.bounds.importance_weighted import ImportanceWeighted
from jensen.bounds.renyi import Renyi
from jensen.bounds.weighted import Weighted

__all__ = ["ELBO", "ChiUpper", "ImportanceWeighted", "Renyi", "Weighted"]
