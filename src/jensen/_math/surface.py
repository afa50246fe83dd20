"""A smooth function told by few values and gradients: Gaussian-process regression about a quadratic.

In coordinates t = F⁻¹ (u - m), f(t) = c - ½ |t|² + g(t), where g is a Gaussian process with covariance
σ² exp(-½ Σ (t_i - t'_i)² / ℓ_i²) (Rasmussen and Williams 2006, chapters 2, 5.1 and 9.4 for derivatives). F is turned so
that the axes are those along which g varies most and least (the active subspace of Constantine 2015): a posterior that
is bent along one or two directions has long lengths along all others, and few values tell it. Further from the nearest
point than `reach`, f goes on as a line that falls, or a parabola where it is steep already; where a place known to be
low is nearer, f is lower by the square of the difference. So exp f can be integrated, and nothing is made up far out.
Values are in nats. N points in d dimensions are n = N (1 + d) numbers, and cost O(n³) once and O(N d) for each value
afterwards.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, solve_triangular

from jensen._math.reckoning import MULTIPLIED

LENGTHS = (1.0, 1.5, 2.2, 3.3, 5.0, 8.0)
"""Lengths ℓ, in posterior sd, of which the likeliest is taken for all axes; from there each axis goes its way."""
RATIO, SHORTEST, LONGEST, SWEEPS = 1.5, 0.7, 30.0, 4
"""By how much a length is changed, within which bounds, and how often all are tried."""
NUGGETS = (1e-10, 1e-7, 1e-4)
"""Variances of noise, as shares of σ², likewise."""
REACH, FALLS, STEEP, LOW = 1.0, 0.25, 2.0, 20.0
"""Distance from the nearest point, for √d, beyond which f goes on by itself; its least slope, and the one from which on
it bends; how steeply f is lower near places that are known to be low."""
VARIES = 3.0
"""The sd of g, for the range of its values, from which on it counts as wild."""
MOST = 700
"""Numbers by which lengths and noise are chosen."""


TYPICAL, ROUNDS, AXIS, FACTORED = 80, 5, 6, 1.0
"""Points and surfaces of a fit, lengths that are tried for each axis, and multiplications of a likelihood by cubes of
its numbers: what it takes is reckoned from them."""


@dataclass(frozen=True, eq=False)
class Surface:
    """f and its gradient, and how uncertain f is.

    Attributes:
        reach: distance from a point, in t, up to which g is believed. low: places (K, d) in t where f is low.
        centre, factor: m (d,) and F (d, d). points: t (N, d). constant: c. lengths: ℓ (d,). nugget: noise. scale: σ².
        values, slopes: weights of the kernel, (N,), and of its derivatives with regard to t / ℓ, (N, d).
    """

    centre: np.ndarray
    factor: np.ndarray
    points: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    lengths: np.ndarray
    constant: float
    nugget: float
    scale: float
    reach: float
    low: np.ndarray

    @classmethod
    def fitted(
        cls,
        points: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
        centre: np.ndarray,
        factor: np.ndarray,
        low: np.ndarray,
    ) -> "Surface":
        """To values (N,) and gradients (N, d) at points (N, d); low: (K, d) where values are too low to matter."""
        white = np.linalg.solve(factor, (points - centre).T).T
        rise = values + 0.5 * (white**2).sum(axis=1)
        slopes = gradients @ factor + white
        few = max(2, MOST // (1 + white.shape[1]))
        order = np.argsort(-values, kind="stable")[:few]
        varying = slopes[order] - slopes[order].mean(axis=0)
        turn = np.linalg.eigh(varying.T @ varying)[1]
        factor, white, slopes = factor @ turn, white @ turn, slopes @ turn
        lengths, nugget = _likeliest(white[order], rise[order], slopes[order])
        solved = _solved(white / lengths, rise, slopes * lengths, nugget)
        if solved is None:
            raise LinAlgError("No length makes the covariance of the values positive definite.")
        _, weights, constant, scale = solved
        own = weights[len(white) :].reshape(white.shape)
        reach = REACH * np.sqrt(white.shape[1])
        low = np.linalg.solve(factor, (low - centre).T).T
        return cls(centre, factor, white, weights[: len(white)], own, lengths, constant, nugget, scale, reach, low)

    @staticmethod
    def seconds(dim: int) -> float:
        """What several rounds of values with their surfaces take, reckoned."""
        numbers = min(TYPICAL * (1 + dim), MOST)
        return ROUNDS * (len(LENGTHS) + AXIS * dim) * FACTORED * MULTIPLIED * numbers**3

    def value_and_grad(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f (M,) and ∂f/∂u (M, d) at u (M, d)."""
        white = np.linalg.solve(self.factor, (points - self.centre).T).T
        away, distance = _nearest(white, self.points)
        beyond = np.maximum(distance - self.reach, 0.0)
        value, slope = self._near(white - beyond[:, None] * away)
        along = (slope * away).sum(axis=1)
        falls = np.where(beyond > 0.0, np.minimum(along, -FALLS), along)
        bends = np.where(beyond > 0.0, falls**2 / (falls**2 + STEEP**2), 0.0)
        value = value + (falls - 0.5 * bends * beyond) * beyond
        slope = slope + (falls - bends * beyond - along)[:, None] * away
        if len(self.low):
            other, near = _nearest(white, self.low)
            nearer = np.maximum(distance - near, 0.0)
            value, slope = value - LOW * nearer**2, slope - (2.0 * LOW * nearer)[:, None] * (away - other)
        return value, np.linalg.solve(self.factor.T, slope.T).T

    def _near(self, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """c - ½ |t|² + g(t) and its gradient."""
        scaled, known = white / self.lengths, self.points / self.lengths
        kernel = _kernel(scaled, known)
        shares = kernel * (self.values + scaled @ self.slopes.T - (known * self.slopes).sum(axis=1))
        value = self.constant - 0.5 * (white**2).sum(axis=1) + shares.sum(axis=1)
        pull = shares.sum(axis=1)[:, None] * scaled - shares @ known
        return value, -white - (pull - kernel @ self.slopes) / self.lengths

    def covariance(self, points: np.ndarray) -> np.ndarray:
        """What is not known of f at u (M, d): its covariance (M, M), in squared nats, the constant held."""
        scaled = np.linalg.solve(self.factor, (points - self.centre).T).T / self.lengths
        known = self.points / self.lengths
        root, kernel = np.linalg.cholesky(_gram(known, self.nugget)), _kernel(scaled, known)
        apart = (kernel[:, :, None] * (scaled[:, None] - known)).reshape(len(scaled), -1)
        seen = solve_triangular(root, np.concatenate([kernel, apart], axis=1).T, lower=True)
        return self.scale * (_kernel(scaled, scaled) - seen.T @ seen)


def _nearest(white: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors from the nearest of the points, and the distances."""
    away = white - points[_squares(white, points).argmin(axis=1)]
    distance = np.linalg.norm(away, axis=1)
    return away / np.maximum(distance, 1e-300)[:, None], distance


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T, 0.0)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * _squares(a, b))


def _gram(points: np.ndarray, nugget: float) -> np.ndarray:
    """Covariance of all values, then of all gradients point by point, (n, n), for σ² = 1 and lengths of one."""
    count, dim = points.shape
    apart = points[:, None] - points
    kernel = np.exp(-0.5 * (apart**2).sum(axis=2))
    mixed = (kernel[:, :, None] * apart).reshape(count, -1)  # cov(f(a), ∂f(b))
    both = (np.eye(dim) - apart[..., :, None] * apart[..., None, :]) * kernel[..., None, None]
    gram = np.block([[kernel, mixed], [mixed.T, both.transpose(0, 2, 1, 3).reshape(count * dim, -1)]])
    gram[np.diag_indices(len(gram))] += nugget
    return gram


def _solved(points: np.ndarray, rise: np.ndarray, slopes: np.ndarray, nugget: float):
    """(Cholesky factor, weights, c, σ²), c by generalised least squares; `None` where rounding is all there is."""
    try:
        root = np.linalg.cholesky(_gram(points, nugget))
    except LinAlgError:
        return None
    known = np.concatenate([rise, slopes.reshape(-1)])
    ones = np.concatenate([np.ones(len(rise)), np.zeros(slopes.size)])
    solved = cho_solve((root, True), np.stack([known, ones], axis=1))
    constant = float(ones @ solved[:, 0]) / float(ones @ solved[:, 1])
    weights = solved[:, 0] - constant * solved[:, 1]
    scale = max(float((known - constant * ones) @ weights) / len(known), 1e-12)
    return root, weights, constant, scale


def _likeliest(points: np.ndarray, rise: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, float]:
    """Lengths (d,) and noise: the best of one length for all axes, then each axis as far as that helps."""

    def tried(lengths: np.ndarray, nugget: float) -> float:
        return _likelihood(points, rise, slopes, lengths, nugget)

    nugget, ones = NUGGETS[1], np.ones(points.shape[1])
    best, length = max((tried(length * ones, nugget), length) for length in LENGTHS)
    best, nugget = max((best, nugget), *((tried(length * ones, other), other) for other in NUGGETS if other != nugget))
    lengths, axes = length * ones, list(range(len(ones))) if len(ones) > 1 else []
    for _ in range(SWEEPS):
        before = best
        for axis, ratio in product(axes, (RATIO, 1.0 / RATIO)):
            while True:
                other = np.where(np.arange(len(ones)) == axis, ratio * lengths, lengths)
                found = tried(other, nugget) if SHORTEST < other[axis] < LONGEST else -np.inf
                if not found > best:
                    break
                best, lengths = found, other
        if best < before + 1.0:
            break
    return lengths, nugget


def _likelihood(points: np.ndarray, rise: np.ndarray, slopes: np.ndarray, lengths: np.ndarray, nugget: float) -> float:
    """Of lengths and noise, the scale at its best, in nats."""
    solved = _solved(points / lengths, rise, slopes * lengths, nugget)
    if solved is None:
        return -np.inf
    root, _, _, scale = solved
    # what varies by far more than is seen is made up between and beyond the points
    wild = np.log(max(np.sqrt(scale) / (VARIES * (np.ptp(rise) + 1e-6)), 1.0))
    scaled = len(rise) * float(np.log(lengths).sum())
    return scaled - len(root) * (0.5 * np.log(scale) + wild) - float(np.log(np.diag(root)).sum())
