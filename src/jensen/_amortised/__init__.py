"""Amortised inference: one network for every row's factors."""
