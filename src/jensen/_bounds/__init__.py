"""Bounds on the log evidence, as functions of log importance weights."""

from jensen._bounds.chi import ChiUpper
from jensen._bounds.elbo import ELBO
from jensen._bounds.importance_weighted import ImportanceWeighted
from jensen._bounds.renyi import Renyi
from jensen._bounds.weighted import Weighted

__all__ = ["ELBO", "ChiUpper", "ImportanceWeighted", "Renyi", "Weighted"]
