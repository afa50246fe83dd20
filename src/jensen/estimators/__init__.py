"""Estimators of a bound whose automatic gradient estimates the bound's gradient."""

from jensen.estimators.baseline import LeaveOneOut, NoBaseline
from jensen.estimators.credit import Blanket, Whole
from jensen.estimators.doubly import DoublyReparameterised
from jensen.estimators.exact_entropy import ExactEntropy
from jensen.estimators.fixed_draws import FixedDraws
from jensen.estimators.mixed import Mixed
from jensen.estimators.nested import Nested
from jensen.estimators.pathwise import Pathwise
from jensen.estimators.recipes import Expected, Regressed, Reparameterised, Scored
from jensen.estimators.score_function import ScoreFunction
from jensen.estimators.sticking import StickingTheLanding
from jensen.estimators.stratified import Stratified

__all__ = [
    "Blanket",
    "DoublyReparameterised",
    "ExactEntropy",
    "Expected",
    "FixedDraws",
    "LeaveOneOut",
    "Mixed",
    "Nested",
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
