"""Families whose row factors are computed from the rows' own data by a network."""

from jensen.families.amortised.encoder import Encoder, Network, encoder_for
from jensen.families.amortised.family import Amortised
from jensen.families.amortised.row_factors import RowFactors, Shape

__all__ = ["Amortised", "Encoder", "Network", "RowFactors", "Shape", "encoder_for"]
