"""Families whose row factors are computed from the rows' own data by a network."""

from jensen.families.amortised.encoder import Encoder, Network, encoder_for
from jensen.families.amortised.family import Amortised
from jensen.families.amortised.form import Direct, Structured
from jensen.families.amortised.row_factors import RowFactors, Shape

__all__ = ["Amortised", "Direct", "Encoder", "Network", "RowFactors", "Shape", "Structured", "encoder_for"]
