"""Families whose row factors are computed from the rows' own data by a network."""

from jensen._amortised.family.encoder import Encoder, Network, encoder_for
from jensen._amortised.family.family import Amortised
from jensen._amortised.family.form import Direct, Structured
from jensen._amortised.family.row_factors import RowFactors, Shape

__all__ = ["Amortised", "Direct", "Encoder", "Network", "RowFactors", "Shape", "Structured", "encoder_for"]
