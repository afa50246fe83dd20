"""Pareto smoothing of importance weights (Vehtari, Simpson, Gelman, Yao and Gabry 2024).

The verdict of every fit rests on it; written out, it spares the first fit of a process the import of a larger library.
"""

import numpy as np
from scipy.special import logsumexp

PRIOR_SHAPE, PRIOR_DRAWS = 0.5, 10.0
"""The shape is drawn towards this value as if by so many more draws (appendix C)."""


def smoothed(logs: np.ndarray) -> tuple[np.ndarray, float]:
    """(log weights with the upper tail replaced by a generalised Pareto's quantiles, normalised; the shape k̂).

    The tail is the largest min(n / 5, 3 √n) of n log weights. k̂ is not a number where nothing can be fitted.

    Raises:
        ValueError: the weights of the whole tail are equal, or it has fewer than 5.
    """
    logs = np.asarray(logs, float) - np.max(logs)
    count = len(logs)
    size = int(3.0 * np.sqrt(count)) if count > 225 else count // 5
    order = np.argsort(logs)
    tail = order[count - size :]
    if size < 5 or logs[tail[-1]] - logs[tail[0]] < np.finfo(float).tiny:
        raise ValueError("all weights of the tail are the same, or it has fewer than five")
    cutoff = np.exp(logs[order[count - size - 1]])
    shape, scale = fitted(np.exp(logs[tail]) - cutoff)
    if np.isfinite(shape):
        below = np.arange(0.5, size) / size
        stretch = -np.log1p(-below) if shape == 0 else np.expm1(-shape * np.log1p(-below)) / shape
        quantiles = cutoff + scale * stretch if scale > 0 else np.full(size, np.nan)
        logs[tail] = np.minimum(np.log(quantiles), 0.0)  # none above the largest raw weight
    return logs - logsumexp(logs), float(shape)


def fitted(excess: np.ndarray) -> tuple[float, float]:
    """Shape and scale of the generalised Pareto distribution of sorted excesses, by Zhang and Stephens (2009).

    The posterior mean of b = k / σ over a grid, under a prior that follows the data's first quartile.
    """
    count = len(excess)
    points = 30 + int(np.sqrt(count))
    quartile = excess[int(count / 4 + 0.5) - 1]
    b = 1.0 / excess[-1] + (1.0 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3.0 * quartile)
    shapes = np.log1p(-b[:, None] * excess).mean(axis=1)
    log_likelihood = count * (np.log(-b / shapes) - shapes - 1.0)
    weights = np.exp(log_likelihood - logsumexp(log_likelihood))
    weights = np.where(weights >= 10.0 * np.finfo(float).eps, weights, 0.0)
    mean = float((weights * b).sum() / weights.sum())
    shape = float(np.log1p(-mean * excess).mean())
    return (count * shape + PRIOR_DRAWS * PRIOR_SHAPE) / (count + PRIOR_DRAWS), -shape / mean
