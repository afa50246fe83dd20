"""Which modes an approximation covers: further climbs, how many modes they leave unseen, what q misses."""

import numpy as np

from jensen._core import Certificate
from jensen._families import AbstractLocationScale
from jensen._math import lbfgs, linalg
from jensen._math.precision import working
from jensen._model import Target
from jensen._modes.climbs import Mode, Survey, distinct, find_starts, settle

CLIMBS = 24
"""Further climbs, half of them from around all modes known, half from where climbs start anyway."""
MISSED = 0.1
"""A mode is missed where q holds less than this part of its evidence."""
NOTHING = 1e-3
"""Evidence, as a part of the best mode's, below which a mode is passed over."""
LOCAL = 256
"""Draws from the Gaussian at each mode by which p and q are compared there."""


def all_modes(target: Target, found: Survey, seed: int, most: int = 16) -> tuple[tuple[Mode, ...], float]:
    """The regular modes after further climbs, and how likely another climb is to end at a mode not seen so far.

    The latter is the share of climbs that ended at a mode that no other climb ended at (Good 1953, equation 8, for the
    chance of a new species).
    """
    known = [mode for mode in found.modes if mode.regular]
    if target.heavy or not known or np.isfinite(target.reach):
        return tuple(known), 0.0
    rng = np.random.default_rng([seed, 41])
    centre = np.stack([mode.point for mode in known])
    spread = np.sqrt(np.mean([np.sum(m.factor**2, axis=1) for m in known], axis=0) + centre.var(axis=0))
    wide = centre.mean(axis=0) + 3.0 * spread * rng.normal(size=(CLIMBS // 2, target.dim))
    starts = np.concatenate([wide, find_starts(target, seed + 41, CLIMBS // 2)])
    values, gradients = target.value_and_grad(starts)
    starts = starts[np.isfinite(values) & np.isfinite(gradients).all(axis=1)]
    *_, paths = target.climbs(starts, max_steps=200, tolerance=1e-6)
    ends = [p for p in paths if np.isfinite(p.best[1]) and p.stopped != lbfgs.RAN_AWAY]
    visits: dict[int, int] = {}
    for path in sorted(ends, key=lambda p: -p.best[1]):
        point = path.best[0]
        near = next((i for i, mode in enumerate(known) if mode.distance(point) < 5.0), None)
        if near is None and len(known) < most:
            mode = settle(target, path)
            if not mode.regular:
                continue
            near = next((i for i, other in enumerate(known) if len(distinct([other, mode])) == 1), None)
            if near is None:
                known.append(mode)
                near = len(known) - 1
        key = -1 if near is None else near
        visits[key] = visits.get(key, 0) + 1
    logs = _laplace(known)
    telling = logs > logs.max() + np.log(NOTHING)  # to see a mode once says little where it holds nothing
    once = visits.get(-1, 0) + sum(1 for key, count in visits.items() if count == 1 and key >= 0 and telling[key])
    return tuple(known), once / max(sum(visits.values()), 1)


def _laplace(modes: list[Mode] | tuple[Mode, ...]) -> np.ndarray:
    return np.array([mode.value + linalg.log_det_factor(mode.factor) for mode in modes])


def uncovered(target: Target, q: AbstractLocationScale, modes: tuple[Mode, ...], seed: int) -> Certificate:
    """`share_elsewhere` and `variance_elsewhere` of the modes that q misses, in the survey's sense.

    Around every mode Z = E_g[p / g] and Q = E_g[q / g] with the Gaussian g of its curvature; the mode is missed where
    its share of ΣQ is under a tenth of its share of ΣZ.
    """
    if len(modes) < 1:
        return Certificate()
    held, evidence = np.zeros(len(modes)), np.zeros(len(modes))
    rng = np.random.default_rng([seed, 43])
    for index, mode in enumerate(modes):
        gaussian = mode.gaussian()
        points = gaussian.host_transform(rng.normal(size=(LOCAL, target.dim)))
        log_g = gaussian.host_log_prob(points)
        with working(target.precision):
            log_q = q.host_log_prob(points)
        evidence[index] = _log_mean(target.value(points) - log_g)
        held[index] = _log_mean(log_q - log_g)
    shares = np.exp(evidence - np.logaddexp.reduce(evidence))
    kept = np.exp(held - np.logaddexp.reduce(held))
    missed = kept < MISSED * shares
    with working(target.precision):
        points = q.host_draws(1024, seed + 43)
    centre, sd = points.mean(axis=0), np.maximum(points.std(axis=0), 1e-300)
    far = np.array([np.abs((mode.point - centre) / sd).max() for mode in modes])
    return Certificate(
        share_elsewhere=float(shares[missed].sum()), variance_elsewhere=float((shares * far**2)[missed].sum())
    )


def _log_mean(values: np.ndarray) -> float:
    top = values.max()
    return float(top + np.log(np.mean(np.exp(values - top)))) if np.isfinite(top) else -np.inf
