"""Indices that come from the data, checked against the axes that they look up: JAX clamps and wraps them in silence."""

from jensen._program.indices.program import IndexCheck, check_indices, checked, index_check

__all__ = ["IndexCheck", "check_indices", "checked", "index_check"]
