"""The checks of a fit, each of which measures, judges and words itself; an answer declares which it takes."""

from jensen.diagnostics.checks.modes import Labellings, Modes, OfPrior
from jensen.diagnostics.checks.moments import Hanging, Moments
from jensen.diagnostics.checks.motion import Stationary
from jensen.diagnostics.checks.optimiser import Given, LinearResponse, Optimiser, Said, Unweighed
from jensen.diagnostics.checks.rows import Rows, SharedOfRows
from jensen.diagnostics.checks.states import States
from jensen.diagnostics.checks.structure import Expressed, Integrated
from jensen.diagnostics.checks.tails import Tails
from jensen.diagnostics.checks.weights import FiniteDensity, Weights

__all__ = [
    "Expressed",
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
    "Rows",
    "Said",
    "SharedOfRows",
    "States",
    "Stationary",
    "Tails",
    "Unweighed",
    "Weights",
]
