"""Gaussians on R^D and what lies beyond them: ADVI, Laplace, Pathfinder, flows, mixtures, trajectories."""
