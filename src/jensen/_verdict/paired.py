"""Moments of q against corrected ones on the same draws, so that what these have by chance falls out."""

from typing import NamedTuple

import numpy as np

from jensen._verdict.importance import weighted_moments

CHANCE = 4.5
"""Standard errors within which two estimates of one number agree, over all scalars of a model."""


class Paired(NamedTuple):
    """Of every scalar: distance of means in corrected sd, its error, log ratio of sds, and the error of that."""

    distance: np.ndarray
    error: np.ndarray
    log_ratio: np.ndarray
    ratio_error: np.ndarray


def paired(table: np.ndarray, weights: np.ndarray) -> Paired:
    """Draws of q (n, K) alone against themselves under `weights` ∝ p / q that sum to one.

    Σ (w_i - 1/n) x_i has a standard error of about sd(n w) / √n in sd, where the difference of two means that do not
    know of each other has more than 1 / √n: with level weights a few draws say what else takes thousands. The errors
    are those of the delta method.
    """
    mean, sd, _ = weighted_moments(table, weights)
    own_mean, own_sd = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-300)
    sd, share = np.maximum(sd, 1e-300), weights[:, None]
    corrected, own = (table - mean) / sd, (table - own_mean) / own_sd
    means = share * corrected - (table - own_mean) / sd / len(table)
    logs = 0.5 * (share * (corrected**2 - 1.0) - (own**2 - 1.0) / len(table))
    error, ratio_error = (np.sqrt((terms**2).sum(axis=0)) for terms in (means, logs))
    return Paired(np.abs(mean - own_mean) / sd, error, np.log(own_sd / sd), ratio_error)
