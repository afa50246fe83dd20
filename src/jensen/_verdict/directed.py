"""Proposals along the profile of a coordinate, which take importance draws into a tail."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from jensen._math import linalg
from jensen._verdict.profile import Frame, across

POWER = 0.8
"""Power of the marginal density that draws follow: a little further out than the tail itself."""
WIDER = 1.2
"""Factor on the sds across."""


@dataclass(frozen=True)
class Directed:
    """u_i outward from the 90 % point by its marginal density, the rest Gaussian about the profile.

    At heights t_k = ± u_i: `logs` of the marginal density, `white` points of the profile, and `roots`, Cholesky factors
    of the curvature across. Between heights the log density and the profile are linear, the curvature is the nearest.
    """

    frame: Frame
    coordinate: int
    sign: float
    at: np.ndarray
    logs: np.ndarray
    white: np.ndarray
    roots: np.ndarray

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Points (count, D)."""
        slopes, masses = self._pieces()
        piece = rng.choice(len(masses), count, p=masses / masses.sum())
        width, slope, unit = np.diff(self.at)[piece], slopes[piece], rng.uniform(size=count)
        rise = slope * width
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(np.abs(rise) < 1e-6, unit, np.log1p(unit * np.expm1(rise)) / rise)
        heights = self.at[piece] + part * width
        noise = WIDER * rng.normal(size=(count, self.white.shape[1] - 1))
        nearest = self._nearest(heights)
        sideways = np.empty_like(noise)
        for k in np.unique(nearest):
            rows = nearest == k
            sideways[rows] = linalg.times(noise[rows], linalg.inverse_triangular(self.roots[k]))
        return self.frame.points(self._profile(heights) + sideways @ self._basis.T)

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density over R^D, in nats; -∞ nearer than the 90 % point and beyond the last height."""
        heights = self.sign * points[:, self.coordinate]
        inside = (heights >= self.at[0]) & (heights <= self.at[-1])
        found = np.full(len(points), -np.inf)
        heights = heights[inside]
        white = linalg.whitened(self.frame.factor, points[inside] - self.frame.mean)
        sideways = (white - self._profile(heights)) @ self._basis
        nearest, dim = self._nearest(heights), sideways.shape[1]
        logs = np.interp(heights, self.at, POWER * self.logs) - np.log(self._pieces()[1].sum())
        for k in np.unique(nearest):
            rows, root = nearest == k, self.roots[k] / WIDER
            logs[rows] += np.log(np.diag(root)).sum() - 0.5 * ((sideways[rows] @ root) ** 2).sum(1)
        logs += np.log(self.frame.normal(self.coordinate)[1]) - np.log(np.diag(self.frame.factor)).sum()
        found[inside] = logs - 0.5 * dim * np.log(2.0 * np.pi)
        return found

    @property
    def _basis(self) -> np.ndarray:
        return across(self.frame.normal(self.coordinate)[0])

    def _pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """(slopes of the log density between heights, ∫ of the density there)."""
        logs, width = POWER * self.logs, np.diff(self.at)
        rise = np.diff(logs)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(np.abs(rise) < 1e-6, 1.0, np.expm1(rise) / rise)
        return rise / width, np.exp(logs[:-1]) * width * mean

    def _profile(self, heights: np.ndarray) -> np.ndarray:
        piece = np.clip(np.searchsorted(self.at, heights) - 1, 0, len(self.at) - 2)
        part = ((heights - self.at[piece]) / np.diff(self.at)[piece])[:, None]
        return (1.0 - part) * self.white[piece] + part * self.white[piece + 1]

    def _nearest(self, heights: np.ndarray) -> np.ndarray:
        return np.searchsorted(0.5 * (self.at[1:] + self.at[:-1]), heights)


@dataclass(frozen=True)
class Mixed:
    """An even mixture of directed proposals."""

    parts: tuple[Directed, ...]

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Points (count, D), as many from each part as from any other."""
        rng = np.random.default_rng(seed)
        shares = np.diff(np.linspace(0, count, len(self.parts) + 1).astype(int))
        return rng.permutation(np.concatenate([p.draw(int(n), rng) for p, n in zip(self.parts, shares, strict=True)]))

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density over R^D, in nats."""
        return logsumexp([part.log_prob(points) for part in self.parts], axis=0) - np.log(len(self.parts))
