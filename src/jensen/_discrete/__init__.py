"""Discrete latents summed out exactly: tables of factors over enumerated values, and their elimination."""

from jensen._discrete.bind import summed_out
from jensen._discrete.layout import DiscreteLayout, Mode
from jensen._discrete.summed import complete, log_terms, marginals

__all__ = ["DiscreteLayout", "Mode", "complete", "log_terms", "marginals", "summed_out"]
