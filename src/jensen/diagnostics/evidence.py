"""The log evidence and the decompositions of the bound."""

from jensen._verdict.evidence import Decomposition, Evidence, evidence

__all__ = ["Decomposition", "Evidence", "evidence"]
