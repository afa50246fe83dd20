"""The analysed models of the conjugate zoo, shared with its own tests."""

from tests.conjugacy.conftest import _double, analysed, built

__all__ = ["_double", "analysed", "built"]
