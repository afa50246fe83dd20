"""Estimators of a bound whose automatic gradient estimates the bound's gradient."""

from jensen._estimators.baseline import LeaveOneOut, NoBaseline
from jensen._estimators.credit import Blanket, Whole
from jensen._estimators.doubly import DoublyReparameterised
from jensen._estimators.exact_entropy import ExactEntropy
from jensen._estimators.fixed_draws import FixedDraws
from jensen._estimators.mixed import Mixed
from jensen._estimators.pathwise import Pathwise
from jensen._estimators.recipes import Expected, Regressed, Reparameterised, Scored
from jensen._estimators.score_function import ScoreFunction
from jensen._estimators.sticking import StickingTheLanding
from jensen._estimators.stratified import Stratified

__all__ = [
    "Blanket",
    "DoublyReparameterised",
    "ExactEntropy",
    "Expected",
    "FixedDraws",
    "LeaveOneOut",
    "Mixed",
    "NoBaseline",
    "Pathwise",
    "Regressed",
    "Reparameterised",
    "ScoreFunction",
    "Scored",
    "StickingTheLanding",
    "Stratified",
    "Whole",
]
