"""Marginal densities of single coordinates far out, where no draw is: a profile, and the volume around it."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._math import lbfgs, linalg

STEPS = 60
"""Steps of a climb on a slice."""
TOLERANCE = 1e-3
"""Nats that a climb on a slice may leave."""
DIRECTIONS = 4
"""Random directions in which the curvature of a slice is looked at."""
DRAWS, FEWEST, SECONDS = 64, 16, 1.0
"""Draws that correct the Gaussian volume of a slice; fewer, but no less than so many, where all would take longer."""
EVEN = 0.15
"""Effective part of these draws below which the volume counts as unknown."""


@dataclass(frozen=True)
class Frame:
    """Coordinates v in which the draws are centred and white, u = m + L v; `factor` is L."""

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, weights: np.ndarray) -> "Frame | None":
        """That of weighted draws (n, D); `None` where their covariance is singular."""
        mean = weights @ points
        centred = (points - mean) * np.sqrt(weights)[:, None]
        covariance = centred.T @ centred
        return cls(mean, linalg.cholesky(covariance)) if linalg.is_positive_definite(covariance) else None

    def normal(self, coordinate: int) -> tuple[np.ndarray, float]:
        """(unit vector a, sd) with u_i = m_i + sd · a·v: slices of constant u_i are planes across a."""
        row = self.factor[coordinate]
        sd = float(np.linalg.norm(row))
        return row / sd, sd

    def points(self, white: np.ndarray) -> np.ndarray:
        """u (rows, D)."""
        return self.mean + white @ self.factor.T


@dataclass(frozen=True)
class Slices:
    """The highest points of slices u_i = m_i + sd_i · c, in white coordinates (rows, D), and the log density there."""

    coordinates: np.ndarray
    heights: np.ndarray
    white: np.ndarray
    values: np.ndarray


def climbed(target: Any, frame: Frame, coordinates: np.ndarray, heights: np.ndarray, starts: np.ndarray) -> Slices:
    """Climb on every slice (coordinate i, height c) from `starts`, all of them together.

    The last column numbers the rows, since those that have converged drop out.
    """
    normals = np.stack([frame.normal(i)[0] for i in coordinates])

    def onto(white: np.ndarray, rows: np.ndarray) -> np.ndarray:
        a = normals[rows]
        return white - a * ((white * a).sum(1) - heights[rows])[:, None]

    def evaluate(numbered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = numbered[:, -1].astype(int)
        values, gradients = target.value_and_grad(frame.points(onto(numbered[:, :-1], rows)))
        slopes, a = gradients @ frame.factor, normals[rows]
        slopes = slopes - a * (slopes * a).sum(1)[:, None]
        return values, np.concatenate([slopes, np.zeros((len(rows), 1))], axis=1)

    numbered = np.concatenate([starts, np.arange(len(starts))[:, None]], axis=1)
    steps = lbfgs.maximise(evaluate, numbered, max_steps=STEPS, tolerance=TOLERANCE, eps=target.eps)
    paths = deque(steps, maxlen=1).pop()
    best = np.stack([path.best[0] for path in paths])
    values = np.array([path.best[1] for path in paths])
    return Slices(coordinates, heights, onto(best[:, :-1], np.arange(len(best))), values)


def widened(target: Any, frame: Frame, slices: Slices, seed: int) -> np.ndarray:
    """By how much the log volume of a slice exceeds that at the centre, in nats, from its mean curvature; at least 0.

    f(v + w) + f(v - w) - 2 f(v) in random directions w across the slice, one sd long each way.
    """
    rows, dim = slices.white.shape
    if dim == 1:
        return np.zeros(rows)
    white = np.concatenate([slices.white, np.zeros((1, dim))])
    noise = np.random.default_rng(seed).normal(size=(DIRECTIONS, dim)) / np.sqrt(dim)
    normals = np.stack([*(frame.normal(i)[0] for i in slices.coordinates), np.zeros(dim)])
    across = noise[None] - (noise @ normals.T).T[..., None] * normals[:, None]
    around = np.stack([white[:, None] + across, white[:, None] - across], axis=1)
    values = target.value(frame.points(around.reshape(-1, dim))).reshape(rows + 1, -1).mean(1)
    centre = np.append(slices.values, target.value(frame.mean[None])[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        curvature = np.maximum(centre - values, 1e-300)
        wider = 0.5 * (dim - 1) * (np.log(curvature[-1]) - np.log(curvature[:-1]))
    return np.where(np.isfinite(wider), np.maximum(wider, 0.0), 0.0)


def log_marginals(target: Any, frame: Frame, slices: Slices, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(log ∫ p over each slice, Cholesky factors of its curvature), in nats up to one constant; NaN where not known.

    Laplace's method, f + ½ (D - 1) log 2π - ½ log |A| with A the curvature of the slice at its highest point, corrected
    by the mean of p over the Gaussian N(v, A⁻¹) at draws of it.
    """
    rows, dim = slices.white.shape
    found, roots = np.full(rows, np.nan), np.full((rows, dim - 1, dim - 1), np.nan)
    if dim == 1:
        return np.where(np.isfinite(slices.values), slices.values, np.nan), roots
    draws = int(np.clip(SECONDS / target.price.seconds(rows, 0), FEWEST, DRAWS))
    noise = np.random.default_rng(seed).normal(size=(draws // 2, dim - 1))
    noise = np.concatenate([noise, -noise])
    points, kept = [], []
    for row in range(rows):
        if not np.isfinite(slices.values[row]):
            continue
        basis = across(frame.normal(slices.coordinates[row])[0])
        point = frame.points(slices.white[row][None])[0]
        curvature = basis.T @ target.whitened_curvature(point, frame.factor) @ basis
        if not np.isfinite(curvature).all() or not linalg.is_positive_definite(curvature):
            continue
        roots[row] = root = linalg.cholesky(curvature)
        found[row] = slices.values[row] - float(np.log(np.diag(root)).sum()) + 0.5 * (dim - 1) * np.log(2 * np.pi)
        points.append(frame.points(slices.white[row] + np.linalg.solve(root.T, noise.T).T @ basis.T))
        kept.append(row)
    if not kept:
        return found, roots
    values = target.value(np.concatenate(points)).reshape(len(kept), -1)
    ratios = values - slices.values[kept][:, None] + 0.5 * (noise**2).sum(1)
    top = ratios.max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        weights = np.exp(ratios - top)
    total = weights.sum(1)
    effective = total**2 / (weights**2).sum(1) / len(noise)
    found[kept] += np.where(effective > EVEN, top[:, 0] + np.log(total / len(noise)), np.nan)
    return found, roots


def across(normal: np.ndarray) -> np.ndarray:
    """An orthonormal basis (D, D - 1) of the plane across a unit vector: the columns of a reflection."""
    sign = -1.0 if normal[0] > 0 else 1.0
    axis = normal.copy()
    axis[0] -= sign
    return (np.eye(len(normal)) - 2.0 * np.outer(axis, axis) / (axis @ axis))[:, 1:]
