"""A mixture of Gaussians fitted to importance-weighted draws: adaptive importance sampling.

Each round draws from the mixture so far and from heavier-tailed relatives of its components, weighs the draws, and sets
the mixture to its optimum for them by EM with weights: ascent of -KL(posterior ‖ q), as an expectation over the
posterior (Cappé, Douc, Guillin, Marin and Robert 2008, section 3). No gradient is taken.
"""

import numpy as np
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri

from jensen._families import FullRank, Mixture
from jensen._families.heavier import TAIL
from jensen._math import linalg
from jensen._math.sobol import sobol
from jensen._model import Target

ROUNDS, MOST, DRAWS, PER_COORDINATE = 3, 12, 1024, 256
"""Rounds, at least and at most, and draws in each: at least so many, and so many for each coordinate."""
LAST = 8192
"""Draws in the last round, at least: of those of the others the noise in the sds shows in the verdict."""
EVEN, EFFORT = 0.75, 4e9
"""The share of effective draws after which the next round is the last, and how much work most rounds may be."""
STEPS, PRIOR = 15, 20.0
"""EM steps in a round, and the weight of the first scatter in every component's, in draws."""


def adapted(target: Target, start: FullRank, count: int, seed: int, values: float = np.inf) -> Mixture:
    """A mixture of `count` components that covers the posterior around `start`.

    Rounds go on until most draws are effective. Cost: max(1024, 256 d) values of the log density in each round, and
    8192 in the last, or as many as the account of work affords; of rounds, as many as ask for no more `values`.
    """
    rng = np.random.default_rng([seed, 53])
    scatter = start.covariance()
    means, factors, logs = np.asarray(start.loc, float)[None], np.linalg.cholesky(scatter)[None], np.zeros(1)
    size = max(DRAWS, PER_COORDINATE * target.dim)
    afforded = min(EFFORT / target.work, values - LAST)
    rounds = int(np.clip(afforded / size, ROUNDS, MOST))
    most, settled = max(size, int(min(LAST, EFFORT / target.work))), False
    for index in range(rounds):
        last = settled or index == rounds - 1
        points, log_proposal = _draw(means, factors, logs, most if last else size, int(rng.integers(2**31)))
        weights = _truncated(target.value(points) - log_proposal)
        if weights is None:
            break
        settled = index >= ROUNDS - 2 and 1.0 / (weights**2).sum() > EVEN * size
        if len(means) < count:
            means, factors, logs = _spread(points, weights, start, count, rng)
        means, factors, logs = _fitted(points, weights, (means, factors, logs), scatter)
        if last:
            break
    parts = [FullRank.from_factor(mean, factor) for mean, factor in zip(means, factors, strict=True)]
    return Mixture.of(parts, logs)


def _truncated(log_weights: np.ndarray) -> np.ndarray | None:
    """Weights that sum to one, none of them above √n times the average at first (Ionides 2008)."""
    finite = np.isfinite(log_weights)
    if not finite.any():
        return None
    average = logsumexp(log_weights[finite]) - np.log(len(log_weights))
    weights = np.exp(np.where(finite, np.minimum(log_weights - average, 0.5 * np.log(len(log_weights))), -np.inf))
    return weights / weights.sum()


def _draw(
    means: np.ndarray, factors: np.ndarray, logs: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points, half of them Student-t about the components, and the log density of the whole proposal there.

    From scrambled Sobol points: of independent draws, few fall into a tail, and sds of it change with the seed.
    """
    uniform = np.clip(sobol(size, 2 + means.shape[1], seed), 1e-12, 1.0 - 1e-12)
    ends = np.cumsum(np.exp(logs - logsumexp(logs)))
    which = np.minimum(np.searchsorted(ends, uniform[:, 0]), len(means) - 1)
    heavier = uniform[:, 1] < 0.5
    square = 2.0 * gammaincinv(0.5 * TAIL, np.where(heavier, 2.0 * uniform[:, 1], 0.5))  # of χ² with TAIL degrees
    noise = ndtri(uniform[:, 2:]) * np.where(heavier, np.sqrt(TAIL / square), 1.0)[:, None]
    points = means[which] + np.einsum("nij,nj->ni", factors[which], noise)
    squares, dets = _distances(points, means, factors)
    d = means.shape[1]
    normal = -0.5 * (squares + d * np.log(2.0 * np.pi)) - dets
    constant = gammaln(0.5 * (TAIL + d)) - gammaln(0.5 * TAIL) - 0.5 * d * np.log(TAIL * np.pi)
    heavy = constant - 0.5 * (TAIL + d) * np.log1p(squares / TAIL) - dets
    both = np.asarray(logsumexp(np.logaddexp(normal, heavy) + logs, axis=1))
    return points, both - np.asarray(logsumexp(logs)) - np.log(2.0)


def _distances(points: np.ndarray, means: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances in each component's own scale (n, K), and log |factor| (K,)."""
    inverse = np.linalg.inv(factors)
    count, d = means.shape
    white = linalg.times(points, inverse.reshape(count * d, d).T)
    white -= np.einsum("kij,kj->ki", inverse, means).ravel()
    white = white.reshape(-1, count, d)
    dets = np.log(np.abs(np.diagonal(factors, axis1=1, axis2=2))).sum(axis=1)
    return np.einsum("nki,nki->nk", white, white), dets


def _spread(
    points: np.ndarray, weights: np.ndarray, start: FullRank, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Components at weighted draws far from each other (Arthur and Vassilvitskii 2007), narrower than the first."""
    factor = np.linalg.cholesky(start.covariance())
    white = linalg.whitened(factor, points - np.asarray(start.loc, float))
    chosen = [int(rng.choice(len(points), p=weights))]
    while len(chosen) < count:
        near = np.min([((white - white[c]) ** 2).sum(axis=1) for c in chosen], axis=0) * weights
        chosen.append(int(rng.choice(len(points), p=near / near.sum())))
    return points[chosen], np.repeat(0.7 * factor[None], count, axis=0), np.zeros(count)


def _fitted(
    points: np.ndarray, weights: np.ndarray, mixture: tuple[np.ndarray, np.ndarray, np.ndarray], scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """EM for weighted points; every component's scatter is drawn a little to the first one's."""
    means, factors, logs = mixture
    d, prior = points.shape[1], PRIOR / len(points)
    for _ in range(STEPS):
        squares, dets = _distances(points, means, factors)
        own = -0.5 * squares - dets + logs
        shares = np.exp(own - own.max(axis=1, keepdims=True))
        shares *= (weights / shares.sum(axis=1))[:, None]
        total = shares.sum(axis=0) + 1e-12
        means = np.einsum("nk,nd->kd", shares, points) / total[:, None]
        spreads = np.stack([linalg.scatter(points - m, s) for m, s in zip(means, shares.T, strict=True)])
        spreads = (spreads + prior * 0.5 * scatter) / (total + prior)[:, None, None]
        spreads += 1e-12 * np.eye(d) * np.trace(scatter) / d
        factors, logs = np.linalg.cholesky(spreads), np.log(total)
    return means, factors, logs
