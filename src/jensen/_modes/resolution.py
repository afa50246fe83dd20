"""Whether a log density is told by the floating-point numbers that it is evaluated at."""

from collections.abc import Callable

import numpy as np

from jensen._model import Target

DRAWS, SHARE = 128, 0.02
"""Draws that are looked at, and the share of them that may be unresolved."""
NATS, DIGITS = 0.1, 1e3
"""How far the densities of neighbours may differ: in nats, and in rounding errors of the density itself."""


def resolved(target: Target, log_q: Callable[[np.ndarray], np.ndarray], points: np.ndarray, values: np.ndarray) -> bool:
    """Whether log p (`values` at the points) and log q are the same at the nearest floating-point numbers.

    A bound is one in exact arithmetic. Where a spread is smaller than the spacing of numbers around its location (an
    effect with a scale of 1e-17 about a mean of 1; a q as narrow), differences round to 0 or to one spacing, and the
    mean of log p - log q over draws may lie above the evidence by any amount.
    """
    few, values = points[:DRAWS], values[:DRAWS]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=few.shape)
    near = few + signs * np.maximum(target.eps * np.abs(few), np.finfo(float).tiny)
    with np.errstate(invalid="ignore"):
        moved = np.abs(np.stack([target.value(near) - values, log_q(near) - log_q(few)]))
        same = (moved <= NATS + DIGITS * target.eps * np.abs(values)).all(axis=0)
    return bool(same.mean() >= 1.0 - SHARE)
