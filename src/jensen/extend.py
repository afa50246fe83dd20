"""What is built upon from outside: the contracts that jensen's own methods, families, bounds and checks implement.

An object of a class that fulfils one of these contracts is passed where jensen's own would be: a method to
`jn.fit(method=...)`, a family to `jn.advi(family=...)`, a bound to `jn.advi(bound=...)`, a check to `Fit.with_checks`.
"""

from jensen._core import (
    AbstractAlgorithm,
    AbstractBound,
    AbstractCheck,
    AbstractDensity,
    AbstractEstimator,
    AbstractFamily,
    Certificate,
    Draw,
    Finding,
    Outcome,
    Progress,
)
from jensen._families import AbstractGaussian, AbstractLocationScale, FullRank, MeanField
from jensen._model import Target
from jensen._modes.continuous import AbstractContinuous
from jensen._verdict.verdict import Material

__all__ = [
    "AbstractAlgorithm",
    "AbstractBound",
    "AbstractCheck",
    "AbstractContinuous",
    "AbstractDensity",
    "AbstractEstimator",
    "AbstractFamily",
    "AbstractGaussian",
    "AbstractLocationScale",
    "Certificate",
    "Draw",
    "Finding",
    "FullRank",
    "Material",
    "MeanField",
    "Outcome",
    "Progress",
    "Target",
]
