"""How well Markov chains mix: split r̂ and bulk effective draws of rank-normalised coordinates (Vehtari et al. 2021)."""

import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from scipy.special import ndtri

RHAT = 1.01
"""Largest r̂ at which chains count as mixed (Vehtari et al. 2021)."""
COLUMNS = 512
"""Coordinates looked at together: what bounds the memory."""


def mixing(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(r̂, effective draws) of each coordinate of (chains, draws, D).

    r̂ is the larger one of location and of spread (of the distance from the median). A coordinate that never moves has
    r̂ = ∞ and no effective draws.
    """
    rhat, effective = np.full(points.shape[-1], np.inf), np.zeros(points.shape[-1])
    moves = np.ptp(points, axis=(0, 1)) > 0
    for columns in np.array_split(np.flatnonzero(moves), max(1, -(-int(moves.sum()) // COLUMNS))):
        if len(columns):
            part = points[..., columns]
            normal, folded = _normal_scores(part), _normal_scores(np.abs(part - np.median(part, axis=(0, 1))))
            rhat[columns] = np.maximum(split_gelman_rubin(normal), split_gelman_rubin(folded))
            effective[columns] = effective_sample_size(_split(normal))
    return np.where(np.isnan(rhat), np.inf, rhat), np.nan_to_num(effective)


def _normal_scores(points: np.ndarray) -> np.ndarray:
    """Φ⁻¹ of the ranks among all chains."""
    from scipy.stats import rankdata  # not for a process that has no chains

    chains, draws, dim = points.shape
    ranks = rankdata(points.reshape(-1, dim), axis=0).reshape(points.shape)
    return ndtri((ranks - 0.375) / (chains * draws + 0.25))


def _split(points: np.ndarray) -> np.ndarray:
    """Both halves of every chain as chains of their own."""
    half = points.shape[1] // 2
    return np.concatenate([points[:, :half], points[:, half : 2 * half]])
