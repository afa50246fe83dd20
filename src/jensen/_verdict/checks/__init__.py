"""The checks of a fit, each of which measures, judges and words itself; an answer declares which it takes."""

from jensen._verdict.checks.modes import Labellings, Modes, OfPrior
from jensen._verdict.checks.moments import Hanging, Moments
from jensen._verdict.checks.motion import Stationary
from jensen._verdict.checks.optimiser import Given, LinearResponse, Optimiser, Said, Unweighed
from jensen._verdict.checks.states import States
from jensen._verdict.checks.structure import Integrated
from jensen._verdict.checks.tails import Tails
from jensen._verdict.checks.weights import FiniteDensity, Weights

__all__ = [
    "FiniteDensity",
    "Given",
    "Hanging",
    "Integrated",
    "Labellings",
    "LinearResponse",
    "Modes",
    "Moments",
    "OfPrior",
    "Optimiser",
    "Said",
    "States",
    "Stationary",
    "Tails",
    "Unweighed",
    "Weights",
]
