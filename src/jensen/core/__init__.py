"""The seven contracts: model, family, bound, estimator, rule, algorithm, check.

A fit repeats draw → weigh → bound → estimate → step.
"""

from jensen.core.algorithm import AbstractAlgorithm, Outcome, Progress
from jensen.core.bound import AbstractBound
from jensen.core.certificate import Certificate
from jensen.core.check import AbstractCheck, Finding, Verdict
from jensen.core.estimates import Estimates
from jensen.core.estimator import AbstractEstimator
from jensen.core.family import AbstractDensity, AbstractFamily, AbstractReparameterised, Draw
from jensen.core.model import AbstractBijection, AbstractModel, total
from jensen.core.rule import AbstractRule

__all__ = [
    "AbstractAlgorithm",
    "AbstractBijection",
    "AbstractBound",
    "AbstractCheck",
    "AbstractDensity",
    "AbstractEstimator",
    "AbstractFamily",
    "AbstractModel",
    "AbstractReparameterised",
    "AbstractRule",
    "Certificate",
    "Draw",
    "Estimates",
    "Finding",
    "Outcome",
    "Progress",
    "Verdict",
    "total",
]
