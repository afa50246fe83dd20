"""A pool of importance draws from q and from a heavier-tailed relative of it."""

from dataclasses import dataclass

import numpy as np

from jensen._families import AbstractGaussian, FullRank
from jensen._families.heavier import student_draws, student_log_prob
from jensen._math import linalg, pareto
from jensen._math.noise import normal_draws
from jensen._model import Target

PILOT, FEW, HOPELESS = 128, 512, 5.5
"""Draws by which weights are judged before all are drawn, the size of a pool of weights that are of no use, and the
nats by which the heaviest of the first exceeds their upper quartile: that of normal log weights with an sd of 3, of
which thousands leave one effective draw."""
EFFORT = 6e8
"""Work of the densities of a pool: less than a second, of which a verdict near a limit takes a few."""


@dataclass(frozen=True)
class Pool:
    """Draws with log joint and proposal densities, all on the unconstrained space, in nats.

    The first half comes from q, the second from a Student-t of q's location and scatter. The importance weights of the
    whole are p / (½ q + ½ t) (balance heuristic, Veach and Guibas 1995): bounded wherever either proposal covers the
    posterior. `khat_q` is the Pareto shape of the raw weights p / q on the first half, the honest verdict on q;
    `khat` is that of the corrected weights; `even_q` and `even` say whether the weights are so even that neither
    matters.
    Shapes are `points` (n, D), the rest (n,).
    """

    points: np.ndarray
    log_joint: np.ndarray
    log_q: np.ndarray
    log_proposal: np.ndarray
    weights: np.ndarray
    khat: float
    khat_q: float
    khat_q_se: float
    even: bool
    even_q: bool

    @property
    def half(self) -> int:
        """Number of draws from q."""
        return len(self.points) // 2

    @property
    def log_ratios(self) -> np.ndarray:
        """log p - log q for the draws from q: their mean is the ELBO; -∞ where the two have no difference."""
        return log_ratio(self.log_joint[: self.half], self.log_q[: self.half])

    @property
    def own_weights(self) -> np.ndarray | None:
        """p / q of the draws from q, summing to one, where they are even."""
        if not self.even_q:
            return None
        weights = np.exp(self.log_ratios - self.log_ratios.max())
        return weights / weights.sum()

    @property
    def divergence(self) -> float:
        """KL(p, q) + KL(q, p) = E_p[log p/q] - E_q[log p/q] in nats, evidence falling out; infinite where unknown.

        At least the variance of log p - log q over the draws from q, near which it is where it is small.
        """
        logs, own = log_ratio(self.log_joint, self.log_q), self.log_ratios
        some = self.weights > 0
        if not (some.any() and np.isfinite(own).all() and np.isfinite(logs[some]).all()):
            return np.inf
        return float(max(self.weights[some] @ logs[some] - own.mean(), own.var()))

    @property
    def log_weights(self) -> np.ndarray:
        """log p - log proposal of every draw; -∞ where the two have no difference."""
        return log_ratio(self.log_joint, self.log_proposal)

    @property
    def ess(self) -> float:
        """Effective number of corrected draws, 1 / Σ w²."""
        return float(1.0 / np.sum(self.weights**2))

    @property
    def estimates(self) -> tuple[float, np.ndarray]:
        """(a, r): the mean of eᵃ r over the draws estimates p(x), eᵃ being the largest corrected weight.

        The ratio q / proposal, whose mean is one, is a control variate: the error is never above that of either
        proposal alone, and zero where q is the posterior (Owen and Zhou 2000, section 4).
        """
        logs = self.log_weights
        top = float(logs.max())
        if not np.isfinite(top):
            return top, np.ones(len(logs))
        with np.errstate(invalid="ignore"):  # draws of a q that contradicts itself have infinite densities
            own = np.exp(np.nan_to_num(self.log_q - self.log_proposal, nan=np.log(2.0)))
        ratio = np.exp(logs - top)
        centred = own - own.mean()
        slope = (centred @ ratio) / max(float(centred @ centred), 1e-300)
        adjusted = ratio - slope * (own - 1.0)
        return top, adjusted if adjusted.mean() > 0 else ratio

    @property
    def log_evidence(self) -> tuple[float, float]:
        """Log mean of `estimates` and its standard error in nats, by the jackknife; infinite where one draw is all."""
        top, ratio = self.estimates
        if not np.isfinite(top):
            return top, np.inf
        count, total = len(ratio), float(ratio.sum())
        rest = total - ratio
        if not (rest > 1e-12 * total).all():
            return top + float(np.log(total / count)), np.inf
        return top + float(np.log(total / count)), float(np.log(rest).std() * np.sqrt(count - 1))

    def resample(self, count: int, seed: int) -> np.ndarray:
        """Indices of `count` draws in proportion to the corrected weights (systematic, in random order)."""
        rng = np.random.default_rng(seed)
        positions = (rng.uniform() + np.arange(count)) / count
        indices = np.searchsorted(np.cumsum(self.weights), positions * self.weights.sum() * (1 - 1e-15))
        return rng.permutation(np.minimum(indices, len(self.weights) - 1))


def pool_size(target: Target) -> int:
    """8192 draws where the data are small; fewer, at least 256, where a log density costs much."""
    return int(2 ** np.clip(np.floor(np.log2(EFFORT / target.work)), 8, np.log2(target.draws)))


def hopeless(log_weights: np.ndarray) -> bool:
    """Whether a few draws of q say that no number of them would give weights that can be used."""
    finite = np.isfinite(log_weights)
    return bool(finite.any()) and float(log_weights[finite].max() - np.quantile(log_weights, 0.75)) > HOPELESS


def draw_pool(target: Target, q: AbstractGaussian, seed: int, covariance: np.ndarray | None = None) -> Pool:
    """Draw and weigh; four times as many draws where the first give a usable but small effective number.

    `covariance` (linear response, say) replaces q's own as the heavier proposal's scatter.
    """
    size = pool_size(target)
    if target.dear and size > FEW:
        first = q.host_transform(normal_draws(PILOT, q.noise_dim, seed))
        size = FEW if hopeless(log_ratio(target.value(first), q.host_log_prob(first))) else size
    pool = _draw(target, q, seed, covariance, size)
    scarce = 50.0 < pool.ess < 2000.0 and not target.dear
    return _draw(target, q, seed, covariance, 4 * pool_size(target)) if scarce else pool


def _draw(target: Target, q: AbstractGaussian, seed: int, covariance: np.ndarray | None, size: int) -> Pool:
    count = size // 2
    wide = widened(q, covariance)
    own = q.host_transform(normal_draws(count, q.noise_dim, seed))
    points = np.concatenate([own, student_draws(wide, count, seed)])
    return weigh(points, target.value(points), *densities(q, wide, points))


def densities(q: AbstractGaussian, wide: AbstractGaussian, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log q, and the log density of half q and half the Student-t of another Gaussian, in nats."""
    log_q = q.host_log_prob(points)
    return log_q, np.logaddexp(log_q, student_log_prob(wide, points)) - np.log(2.0)


def weigh(points: np.ndarray, log_joint: np.ndarray, log_q: np.ndarray, log_proposal: np.ndarray) -> Pool:
    """The pool of these draws, the first half of which came from q."""
    count = len(points) // 2
    corrected, own_ratios = log_ratio(log_joint, log_proposal), log_ratio(log_joint[:count], log_q[:count])
    weights, khat = smooth(corrected)
    _, khat_q = smooth(own_ratios)
    tail = min(count / 5, 3 * np.sqrt(count))
    error = (1.0 + max(khat_q, 0.0)) / np.sqrt(tail) if np.isfinite(khat_q) else np.inf
    return Pool(points, log_joint, log_q, log_proposal, weights, khat, khat_q, error, even(corrected), even(own_ratios))


def joined(first: Pool, second: Pool) -> Pool:
    """Two independent pools of one q as one: draws of q in its first half, others in the second."""

    def both(name: str) -> np.ndarray:
        (a, b), (m, n) = (getattr(first, name), getattr(second, name)), (first.half, second.half)
        return np.concatenate([a[:m], b[:n], a[m:], b[n:]])

    return weigh(both("points"), both("log_joint"), both("log_q"), both("log_proposal"))


def thinned(pool: Pool, half: int) -> Pool:
    """The first draws of each half, at most `half` of them."""
    if pool.half <= half:
        return pool
    rows = np.r_[:half, pool.half : pool.half + half]
    return weigh(pool.points[rows], pool.log_joint[rows], pool.log_q[rows], pool.log_proposal[rows])


def extended(pool: Pool, further: Pool, logs: np.ndarray) -> Pool:
    """A pool of as many draws, some from further proposals r in the place of heavier ones.

    `further` holds k < n draws of r with the densities of the pool's own, `logs` is log r at all draws, (2 n + k,).
    Of n draws from q and n from t, k of t give way: the proposal (n q + (n - k) t + k r) / 2 n is, in terms of
    ½ q + ½ t, that times (n - k) / n, and (q + r) k / 2 n.
    """
    n, k = pool.half, len(further.points)
    rows = np.r_[: 2 * n - k, 2 * n : 2 * n + k]

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(pool, name), getattr(further, name)])[rows]

    log_q, old = both("log_q"), both("log_proposal") + np.log((n - k) / n)
    log_proposal = np.logaddexp(old, np.logaddexp(log_q, logs[rows]) + np.log(k / (2 * n)))
    return weigh(both("points"), both("log_joint"), log_q, log_proposal)


def log_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The difference of two log densities; -∞, no weight, where both are infinite or one is not a number."""
    with np.errstate(invalid="ignore"):
        ratio = np.asarray(above, float) - np.asarray(below, float)
    return np.where(np.isnan(ratio), -np.inf, ratio)


def widened(q: AbstractGaussian, covariance: np.ndarray | None) -> AbstractGaussian:
    """The Gaussian of q's location and this covariance, where it is one."""
    if covariance is None or not linalg.is_positive_definite(covariance):
        return q
    return FullRank.from_factor(np.asarray(q.loc, float), linalg.cholesky(covariance))


def smooth(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed weights that sum to one, and k̂ (Vehtari et al. 2024).

    k̂ is infinite when a weight is not finite from above, fewer than 25 draws have any weight, or the tail cannot be
    fitted; constant weights, which have no tail, count as k̂ = -1.
    """
    finite = np.isfinite(log_weights)
    if finite.sum() < 25 or np.isposinf(log_weights).any():
        weights = np.where(finite, 1.0, 0.0)
        return weights / max(weights.sum(), 1.0), np.inf
    logs = np.where(finite, log_weights, -np.inf)
    spread = logs[finite].max() - logs[finite].min()
    if spread < 1e-9:
        return finite / finite.sum(), -1.0
    floor = logs[finite].max() - 700.0
    if len(np.unique(logs[finite])) < finite.sum():  # a tail of ties cannot be fitted
        logs = logs + 1e-9 * spread * np.random.default_rng(len(logs)).uniform(size=len(logs))
    smoothed, khat = _psis(np.where(logs > floor, logs, floor))
    if smoothed is None:
        weights = np.where(finite, np.exp(np.where(finite, logs, floor) - logs[finite].max()), 0.0)
        return weights / weights.sum(), np.inf
    raw = np.exp(np.where(logs > floor, logs, floor) - logs[finite].max())
    if raw.max() > 0.1 * raw.sum():
        khat = max(khat, 1.0)  # one draw outweighs what smoothing may level: another mode, say
    weights = np.exp(smoothed - np.max(smoothed))
    weights = np.where(finite, weights, 0.0)
    return weights / weights.sum(), khat


def _psis(logs: np.ndarray) -> tuple[np.ndarray | None, float]:
    """(smoothed log weights, k̂); (None, ∞) where the whole tail consists of ties, and k̂ = ∞ where it has no value."""
    try:
        with np.errstate(all="ignore"):
            smoothed, khat = pareto.smoothed(logs)
    except ValueError:
        return None, np.inf
    return smoothed, np.inf if np.isnan(khat) else khat


def tail_shape(values: np.ndarray) -> float:
    """Pareto k̂ of positive values; infinite where it cannot be fitted."""
    logs = np.log(np.maximum(values, 1e-300))
    return _psis(np.maximum(logs, logs.max() - 700.0))[1]


def even(log_weights: np.ndarray) -> bool:
    """Whether no tail matters: over 80 % effective draws and no weight above 20 times the average, unsmoothed.

    k̂ describes the shape of a tail, not its mass; for weights as even as this its value changes nothing. 60 % will do
    where no draw has more than 1 / 400 of all weight. Smoothed weights would not: they hide a single draw that fell
    into another mode.
    """
    if not np.isfinite(log_weights.max()):
        return False
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    effective, largest = 1.0 / np.sum(weights**2) / len(weights), weights.max()
    return bool((effective > 0.8 and largest * len(weights) < 20.0) or (effective > 0.6 and largest < 1.0 / 400.0))


def weighted_moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and Monte Carlo standard error of the mean of rows under weights that sum to one."""
    mean = np.tensordot(weights, values, axes=1)
    centred = values - mean
    sd = np.sqrt(np.tensordot(weights, centred**2, axes=1))
    error = np.sqrt(np.tensordot(weights**2, centred**2, axes=1))
    return mean, sd, error
