"""Hierarchical variational models: a prior on the parameters of a factorised q."""
