"""Bounds on the log evidence, as functions of log importance weights."""

from jensen._bounds import (
    ELBO,
    ChiUpper,
    ImportanceWeighted,
    Renyi,
    Weighted,
)

__all__ = [
    "ELBO",
    "ChiUpper",
    "ImportanceWeighted",
    "Renyi",
    "Weighted",
]
