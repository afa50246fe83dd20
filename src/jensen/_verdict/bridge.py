"""The log evidence between draws of q and draws of the posterior."""

import numpy as np
from scipy.special import expit, logsumexp

SURE, SINGLE, TURNS = 0.2, 0.1, 200
"""Standard error in nats, and the part of a mean that one draw makes up, above which there is no estimate; turns."""


def bridge(own: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """(log p(x), its standard error) from log p(x, z) - log q(z) at draws of q and at draws of the posterior.

    The optimal bridge of Meng and Wong (1996), equation 4.1: r = E_q[p h] / E_p[q h] with h = 1 / (s₁ q + s₂ p / r), by
    iteration; the error is that of Frühwirth-Schnatter (2004), equation 13. It is right wherever q has but a part of
    the posterior, if that is a good part; (nan, ∞) where the two hardly overlap. Both sets are independent draws.
    """
    own = np.where(np.isnan(own), -np.inf, own)
    theirs = theirs[np.isfinite(theirs)]
    if not np.isfinite(own).any() or not len(theirs):
        return np.nan, np.inf
    shift = np.log(len(theirs)) - np.log(len(own))  # log s₂ - log s₁
    value = float(np.median(theirs))
    for _ in range(TURNS):
        # log of p / (s₁ q + s₂ p / r) under q, of q / (...) under p; a common 1 / s₁ is left out of both
        upper, lower = _log_parts(own, theirs, shift - value)
        new = float(logsumexp(upper) - np.log(len(own)) - logsumexp(lower) + np.log(len(theirs)))
        value, change = new, abs(new - value)
        if change < 1e-10 * (1.0 + abs(new)):
            break
    parts = [np.exp(one - one.max()) for one in _log_parts(own, theirs, shift - value)]
    error = float(np.sqrt(sum(part.var() / part.mean() ** 2 / len(part) for part in parts)))
    hangs = max(float(part.max() / part.sum()) for part in parts)
    return (value, error) if error < SURE and hangs < SINGLE else (np.nan, np.inf)


def _log_parts(own: np.ndarray, theirs: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore"):
        return own + np.log(expit(-(own + scale))), np.log(expit(-(theirs + scale)))
