"""Discrete latents summed out exactly: tables of factors over enumerated values, and their elimination."""

from jensen.models.discrete.bind import summed_out
from jensen.models.discrete.layout import DiscreteLayout, Mode
from jensen.models.discrete.summed import complete, log_terms, marginals

__all__ = ["DiscreteLayout", "Mode", "complete", "log_terms", "marginals", "summed_out"]
