"""Stochastic ascent: steps, moves, averages of iterates, and when to stop."""
