"""Draws of Markov chains in the place of a density."""

import equinox as eqx
import numpy as np

from jensen._families.full_rank import FullRank
from jensen._families.gaussian import AbstractGaussian
from jensen._families.mean_field import MeanField
from jensen._math import linalg

DENSE = 1000
"""Largest number of coordinates whose covariances are kept."""


class Chains(eqx.Module):
    """Draws over u ∈ R^D.

    Attributes:
        points: (chains, draws, D). divergences: how many of them ended a trajectory that diverged.
        mean, sd: (D,) of the approximation from which the chains were started.
    """

    points: np.ndarray
    divergences: np.ndarray | int
    mean: np.ndarray
    sd: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """All draws, (chains · draws, D)."""
        points = np.asarray(self.points, float)
        return points.reshape(-1, points.shape[-1])

    @property
    def gaussian(self) -> AbstractGaussian:
        """The Gaussian of the draws' moments, where a density is asked for."""
        return gaussian_of(self.flat)


def gaussian_of(points: np.ndarray) -> AbstractGaussian:
    """The Gaussian with the moments of draws (n, D); a diagonal one where D is beyond `DENSE` or n / 2."""
    if points.shape[1] <= min(DENSE, len(points) // 2):
        covariance = np.atleast_2d(np.cov(points.T))
        jitter = 1e-12 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        return FullRank.from_factor(points.mean(axis=0), linalg.cholesky(covariance + jitter))
    return MeanField(points.mean(axis=0), np.log(points.std(axis=0) + 1e-300))  # type: ignore[arg-type]
