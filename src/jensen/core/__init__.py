"""The six contracts: model, family, bound, estimator, rule, algorithm.

A fit repeats draw → weigh → bound → estimate → step.
"""

from jensen.core.algorithm import AbstractAlgorithm, Outcome, Progress
from jensen.core.bound import AbstractBound
from jensen.core.estimates import Estimates
from jensen.core.estimator import AbstractEstimator
from jensen.core.family import AbstractDensity, AbstractFamily, AbstractReparameterised, Draw
from jensen.core.model import AbstractBijection, AbstractModel, total
from jensen.core.rule import AbstractRule

__all__ = [
    "AbstractAlgorithm",
    "AbstractBijection",
    "AbstractBound",
    "AbstractDensity",
    "AbstractEstimator",
    "AbstractFamily",
    "AbstractModel",
    "AbstractReparameterised",
    "AbstractRule",
    "Draw",
    "Estimates",
    "Outcome",
    "Progress",
    "total",
]
