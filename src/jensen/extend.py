"""What is built upon from outside: the contracts that jensen's own methods, families, bounds and checks implement.

An object of a class that fulfils one of these contracts is passed where jensen's own would be: a model to
`jn.fit(model)`, a method to `jn.fit(method=...)`, a family to `jn.advi(family=...)`, a bound to `jn.advi(bound=...)`, a
check to `Fit.with_checks`. What coordinate ascent reads is registered: `density` a log density, `statistic` a function
of latents that it holds, `recognises` the exponential family of latents on a support. See docs/extending.md.
"""

from jensen._conjugate.algebra.densities.registry import density
from jensen._conjugate.algebra.occurrences import Occurrences
from jensen._conjugate.algebra.recognise import recognises
from jensen._conjugate.algebra.statistics import statistic
from jensen._conjugate.algebra.terms import Stat
from jensen._conjugate.algebra.value import Value, known_function
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
from jensen._families.exponential import AbstractExponentialFactor
from jensen._model import Plate, Site, Structure, Target
from jensen._modes.continuous import AbstractContinuous
from jensen._program.contract import AbstractProgram
from jensen._verdict.verdict import Material

__all__ = [
    "AbstractAlgorithm",
    "AbstractBound",
    "AbstractCheck",
    "AbstractContinuous",
    "AbstractDensity",
    "AbstractEstimator",
    "AbstractExponentialFactor",
    "AbstractFamily",
    "AbstractGaussian",
    "AbstractLocationScale",
    "AbstractProgram",
    "Certificate",
    "Draw",
    "Finding",
    "FullRank",
    "Material",
    "MeanField",
    "Occurrences",
    "Outcome",
    "Plate",
    "Progress",
    "Site",
    "Stat",
    "Structure",
    "Target",
    "Value",
    "density",
    "known_function",
    "recognises",
    "statistic",
]
