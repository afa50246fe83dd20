"""Estimators of a bound whose automatic gradient estimates the bound's gradient."""

from jensen.estimators.exact_entropy import ExactEntropy
from jensen.estimators.fixed_draws import FixedDraws
from jensen.estimators.pathwise import Pathwise
from jensen.estimators.sticking import StickingTheLanding

__all__ = ["ExactEntropy", "FixedDraws", "Pathwise", "StickingTheLanding"]
