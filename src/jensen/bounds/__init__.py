"""Lower bounds on the log evidence, as functions of log importance weights."""

from jensen.bounds.elbo import ELBO
from jensen.bounds.importance_weighted import ImportanceWeighted

__all__ = ["ELBO", "ImportanceWeighted"]
