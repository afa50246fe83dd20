"""Conjugate models: their algebra, coordinate ascent, minibatches, and the answers that they give."""
