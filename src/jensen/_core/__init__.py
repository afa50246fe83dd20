"""The contracts: model, family, bound, estimator, rule, target, algorithm, check.

A fit repeats draw → weigh → bound → estimate → step.
"""

from jensen._core.algorithm import AbstractAlgorithm, Outcome, Progress
from jensen._core.bound import AbstractBound
from jensen._core.certificate import Certificate
from jensen._core.check import AbstractCheck, Finding, Verdict
from jensen._core.estimates import Estimates
from jensen._core.estimator import AbstractEstimator
from jensen._core.family import AbstractDensity, AbstractFamily, AbstractReparameterised, Draw
from jensen._core.model import AbstractBijection, AbstractModel, total
from jensen._core.rule import AbstractRule
from jensen._core.runs import driven, relayed
from jensen._core.steps import Step, sentences, walk
from jensen._core.target import AbstractTarget

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
    "AbstractTarget",
    "Certificate",
    "Draw",
    "Estimates",
    "Finding",
    "Outcome",
    "Progress",
    "Step",
    "Verdict",
    "driven",
    "relayed",
    "sentences",
    "total",
    "walk",
]
