"""The Student-t with a Gaussian's location and scatter: a proposal that reaches further."""

import numpy as np
from scipy import special

from jensen._families.gaussian import AbstractGaussian
from jensen._math.noise import normal_draws

TAIL = 4.0
"""Degrees of freedom."""


def student_draws(q: AbstractGaussian, count: int, seed: int) -> np.ndarray:
    """Draws (count, D)."""
    stretch = np.sqrt(TAIL / np.random.default_rng([seed, 1]).chisquare(TAIL, size=(count, 1)))
    location = np.asarray(q.loc, float)
    return location + stretch * (q.host_transform(normal_draws(count, q.noise_dim, seed + 1)) - location)


def student_log_prob(q: AbstractGaussian, points: np.ndarray) -> np.ndarray:
    """Log density (rows,) in nats."""
    at_mode = float(q.host_log_prob(np.asarray(q.loc, float)[None])[0])
    squared = 2.0 * (at_mode - q.host_log_prob(points))
    constant = special.gammaln(0.5 * (TAIL + q.dim)) - special.gammaln(0.5 * TAIL) - 0.5 * q.dim * np.log(TAIL / 2.0)
    return constant + at_mode - 0.5 * (TAIL + q.dim) * np.log1p(squared / TAIL)
