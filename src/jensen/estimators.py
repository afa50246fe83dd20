"""Estimators of a bound whose automatic gradient estimates the bound's gradient."""

from jensen._estimators import (
    Blanket,
    DoublyReparameterised,
    ExactEntropy,
    Expected,
    FixedDraws,
    LeaveOneOut,
    Mixed,
    NoBaseline,
    Pathwise,
    Regressed,
    Reparameterised,
    Scored,
    ScoreFunction,
    StickingTheLanding,
    Stratified,
    Whole,
)
from jensen._hierarchical.nested_estimator import Nested

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
