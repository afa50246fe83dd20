"""Hierarchical variational models: families whose mean-field parameters have a distribution of their own."""

from jensen._hierarchical.family.auxiliary import AbstractAuxiliary, Factorised, Gaussian, PriorAuxiliary
from jensen._hierarchical.family.auxiliary_shapes import FlowAuxiliary, MixtureAuxiliary
from jensen._hierarchical.family.by_row import EncodedPrior, RowPrior, RowsOf
from jensen._hierarchical.family.family import Hierarchical
from jensen._hierarchical.family.layout import RowLayout
from jensen._hierarchical.family.responsibilities import Responsibilities
from jensen._hierarchical.family.row_auxiliary import RowBayes, RowGaussian

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
