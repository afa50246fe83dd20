"""Hierarchical variational models: families whose mean-field parameters have a distribution of their own."""

from jensen.families.hierarchical.auxiliary import AbstractAuxiliary, Factorised, Gaussian, PriorAuxiliary
from jensen.families.hierarchical.auxiliary_shapes import FlowAuxiliary, MixtureAuxiliary
from jensen.families.hierarchical.by_row import RowGaussian, RowLayout, RowPrior
from jensen.families.hierarchical.family import Hierarchical
from jensen.families.hierarchical.responsibilities import Responsibilities

__all__ = [
    "AbstractAuxiliary",
    "Factorised",
    "FlowAuxiliary",
    "Gaussian",
    "Hierarchical",
    "MixtureAuxiliary",
    "PriorAuxiliary",
    "Responsibilities",
    "RowGaussian",
    "RowLayout",
    "RowPrior",
]
