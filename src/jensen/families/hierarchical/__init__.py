"""Hierarchical variational models: families whose mean-field parameters have a distribution of their own."""

from jensen.families.hierarchical.auxiliary import AbstractAuxiliary, Factorised, Gaussian, PriorAuxiliary
from jensen.families.hierarchical.auxiliary_shapes import FlowAuxiliary, MixtureAuxiliary
from jensen.families.hierarchical.by_row import EncodedPrior, RowPrior, RowsOf
from jensen.families.hierarchical.family import Hierarchical
from jensen.families.hierarchical.layout import RowLayout
from jensen.families.hierarchical.responsibilities import Responsibilities
from jensen.families.hierarchical.row_auxiliary import RowBayes, RowGaussian

__all__ = [
    "AbstractAuxiliary",
    "EncodedPrior",
    "Factorised",
    "FlowAuxiliary",
    "Gaussian",
    "Hierarchical",
    "MixtureAuxiliary",
    "PriorAuxiliary",
    "Responsibilities",
    "RowBayes",
    "RowGaussian",
    "RowLayout",
    "RowPrior",
    "RowsOf",
]
