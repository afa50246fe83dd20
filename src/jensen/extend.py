"""What is built upon from outside: the contracts that jensen's own methods, families, bounds and checks implement.

An object of a class that fulfils one of these contracts is passed where jensen's own would be: a method to
`jn.fit(method=...)`, a family to `jn.advi(family=...)`, a bound to `jn.advi(bound=...)`, a check to `Fit.with_checks`.
What coordinate ascent reads is registered: `density` a log density, `statistic` a function of latents that it holds,
`recognises` the exponential family of latents on a support.
"""

from jensen.algorithms.continuous import AbstractContinuous
from jensen.core import (
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
from jensen.diagnostics.verdict import Material
from jensen.families import AbstractGaussian, AbstractLocationScale, FullRank, MeanField
from jensen.families.exponential import AbstractExponentialFactor
from jensen.models import Target
from jensen.models.conjugacy.densities.registry import density
from jensen.models.conjugacy.occurrences import Occurrences
from jensen.models.conjugacy.recognise import recognises
from jensen.models.conjugacy.statistics import statistic
from jensen.models.conjugacy.terms import Stat
from jensen.models.conjugacy.value import Value, known_function

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
    "Certificate",
    "Draw",
    "Finding",
    "FullRank",
    "Material",
    "MeanField",
    "Occurrences",
    "Outcome",
    "Progress",
    "Stat",
    "Target",
    "Value",
    "density",
    "known_function",
    "recognises",
    "statistic",
]
