"""Confidence limits of the mean of non-negative weights, from their logarithms: what bounds a log evidence."""

from collections.abc import Sequence

import numpy as np
from scipy import special

_STAKES = 2.0 ** -np.arange(9.0)
_SHAPES = np.concatenate([np.linspace(-0.8, -0.1, 4), [1e-9], np.linspace(0.05, 1.0, 20)])
_SCALES = np.exp(np.linspace(-2.0, 1.2, 41))
_LIKELY = 2.5
"""Nats below the largest log likelihood up to which a tail is still taken as possible (1.92 in large samples)."""
_SEEN = 5
"""Times that the largest value has to be seen where values repeat."""


def lower_limit(series: Sequence[np.ndarray], level: float = 0.975) -> float:
    """log of a lower confidence limit on a mean μ of which each of `series` holds logs of unbiased estimates.

    Valid for non-negative weights of any law and any number of draws: for stakes λ in (0, 1], the capital
    C(m) = Π_i (1 + λ (w_i / m - 1)) has a mean of at most 1 at m = μ, and so has its average over stakes and series;
    by Markov's inequality it exceeds 1 / (1 - level) there with probability 1 - level at most. The limit is the m at
    which it does (Waudby-Smith and Ramdas 2024, section 4; with λ = 1 the bound of Grosse, Ancha and Roy 2016).
    Its distance from the estimate is about 3.3 standard errors, and never more than that of Markov's inequality alone
    by more than log 18 nats. -∞ where no weight is positive.
    """
    from scipy.optimize import root_scalar  # not for a process that asks for no limit

    kept = [logs for logs in series if np.isfinite(logs).any()]
    if not kept:
        return -np.inf
    highest = max(_log_sum(logs) - np.log(len(logs)) for logs in kept)
    stakes = _STAKES[:, None]

    def capital(mean: float) -> float:
        with np.errstate(divide="ignore"):
            each = [np.log1p(stakes * np.expm1(logs - mean)).sum(axis=1) for logs in kept]
        return _log_sum(each) - np.log(len(series) * len(_STAKES)) + np.log1p(-level)

    reach = 1.0
    while capital(highest - reach) < 0.0:
        reach *= 2.0
    return root_scalar(capital, bracket=(highest - reach, highest), xtol=1e-8).root


def _log_sum(logs: np.ndarray | list[np.ndarray]) -> float:
    """log Σ exp."""
    return float(np.logaddexp.reduce(np.ravel(logs)))


def upper_excess(values: np.ndarray, level: float = 0.975, heaviest: float = 1.0) -> float:
    """How far the mean of values of which large ones may be rare lies above their average, at most, at this level.

    The larger of Hall's (1992) limit, whose cubic undoes the skewness, and Student's with what a generalised Pareto
    tail adds: the largest mean of such tails whose likelihood is within `_LIKELY` nats of the best, on the largest
    min(n / 5, 3 √n) values. Infinite where one of these tails has no finite mean (shape 1), fewer than 40 values are
    at hand, or the largest of a few repeated values was seen less than `_SEEN` times; tails of a shape above
    `heaviest` < 1 are left out, for values of which it is known that no tail matters. It holds where the tail beyond
    the draws goes on as it began: a place that no draw reaches is not seen.
    """
    count, average = len(values), values.mean()
    if np.ptp(values) <= 1e-9 * abs(average):
        return 0.0
    if count < 40:
        return np.inf
    error = float(values.std(ddof=1)) / np.sqrt(count)
    missing = _missing_tail(values, heaviest)
    return max(float(np.hypot(special.stdtrit(count - 1, level) * error, missing)), _hall(values, error, level))


def _hall(values: np.ndarray, error: float, level: float) -> float:
    skew = float(((values - values.mean()) ** 3).mean() / values.std() ** 3) / np.sqrt(len(values))
    z = special.ndtri(level)
    if abs(skew) < 1e-6:
        return float(z * error)
    return float(3.0 / skew * (1.0 - np.cbrt(1.0 - skew * (z + skew / 6.0))) * error)


def _missing_tail(values: np.ndarray, heaviest: float) -> float:
    """What the mean of the values would gain from the heaviest tail that they allow."""
    size = int(min(0.2 * len(values), 3.0 * np.sqrt(len(values))))
    ordered = np.sort(values)
    excess = ordered[-size:] - ordered[-size - 1]
    if len(np.unique(excess)) * _SEEN <= size:  # a few values that repeat have no tail
        return 0.0 if (excess == excess[-1]).sum() >= _SEEN else np.inf
    mean = float(excess.mean())
    scales, shapes = mean * _SCALES, _SHAPES[heaviest >= _SHAPES, None]
    inner = 1.0 + shapes[:, :, None] * excess / scales[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(inner).sum(axis=-1)
        likelihood = -size * np.log(scales) - (1.0 + 1.0 / shapes) * logs
    likelihood = np.where((inner > 0).all(axis=-1), likelihood, -np.inf)
    likely = likelihood >= likelihood.max() - _LIKELY
    if heaviest >= 1.0 and likely[-1].any():
        return np.inf
    largest = np.where(likely & (shapes < 1.0), scales / np.maximum(1.0 - shapes, 1e-9), 0.0).max()
    return float(size / len(values) * max(largest - mean, 0.0))
