"""Raw moments of q against importance-corrected ones, quantity by quantity."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

import numpy as np

from jensen._verdict.importance import tail_shape, weighted_moments
from jensen._verdict.paired import CHANCE, paired

DISCRETE = 0.5
"""The least sd that a discrete latent is measured by: that of a fair coin."""
ROUNDING = 8 * np.finfo(float).eps
"""Relative spread of a constant that was computed draw by draw, such as the entries of a partly observed site."""
BATCHES = 8
"""Parts of the draws whose sds are compared."""
SINGLE = 0.15
"""Part of a corrected variance that one draw makes up, from which on its tail is looked at."""


@dataclass(frozen=True)
class Agreement:
    """Largest differences over all scalars of all sites, in corrected standard deviations.

    `mean` and `ratio` compare q with the corrected draws (`ratio` is the sd ratio furthest from 1); `halves` compares
    the correction on a random half of the draws with that on the rest; `error` is the largest Monte Carlo error of a
    corrected mean; `tail` the largest Pareto k̂ of the terms of a latent's corrected variance, of those where one
    draw makes up more than `SINGLE` of it (0 where there are none): from 0.7 on the variance cannot be estimated from
    so many draws (Vehtari et al. 2024, section 3). `site` names where `mean` is largest, `ratio_site` the scalar of
    `ratio`, `tail_site` that of `tail`. `spread` is the largest relative error of a corrected sd (of `spread_site`), or
    of its ratio to q's where that is known better. `noise` and `log_noise` are what chance makes of `mean` and of the
    logarithm of `ratio`.
    """

    mean: float
    ratio: float
    halves: float
    error: float
    site: str
    ratio_site: str
    tail: float = 0.0
    tail_site: str = ""
    spread: float = 0.0
    spread_site: str = ""
    noise: float = 0.0
    log_noise: float = 0.0


def flatten(draws: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """Columns (n, K) with a name for each scalar."""
    columns, names = [], []
    for name, values in draws.items():
        flat = values.reshape(len(values), -1)
        columns.append(flat)
        indices = np.ndindex(values.shape[1:])
        names.extend(name if values.ndim == 1 else f"{name}[{','.join(map(str, i))}]" for i in indices)
    return np.concatenate(columns, axis=1), names


def compare(
    draws: dict[str, np.ndarray], weights: np.ndarray, latents: Container[str], own: np.ndarray | None = None
) -> Agreement:
    """`draws`: pool draws on their supports, the first half from q; `weights` sum to one over the pool.

    Sites that are not among `latents` may take few values (an indicator, say), and then one draw may well be a large
    part of their variance. `own` holds weights ∝ p / q of the first half that sum to one, where they are level: what
    they say of q is then taken (`jensen._verdict.paired`), unless the others contradict.
    """
    table, names = flatten(draws)
    # The correction wants finite moments: heavy proposals reach where exp() overflows, at weight zero.
    table = np.where(np.isfinite(table), table, 0.0)
    latent = np.concatenate([np.full(values[0].size, site in latents) for site, values in draws.items()])
    half = len(weights) // 2
    varying = np.ptp(table, axis=0) > ROUNDING * np.abs(table).max(axis=0)
    table, latent = table[:, varying], latent[varying]
    names = [name for name, keep in zip(names, varying, strict=True) if keep]
    if not names:
        return Agreement(0.0, 1.0, 0.0, 0.0, "", "")
    mean, sd, error = weighted_moments(table, weights)
    sd = np.maximum(sd, 1e-300)
    raw_mean, raw_sd = table[:half].mean(axis=0), table[:half].std(axis=0)
    difference = np.abs(raw_mean - mean) / sd
    ratios = raw_sd / sd
    worst = int(np.abs(np.log(np.maximum(ratios, 1e-300))).argmax())
    # At random, not every other row: neighbouring quasi-random points are the least alike.
    side = np.random.default_rng(0).random(len(weights)) < 0.5
    first, second = (
        weighted_moments(table[keep], weights[keep] / max(weights[keep].sum(), 1e-300))[0] for keep in (side, ~side)
    )
    top = int(difference.argmax())
    squares = weights[:, None] * (table - mean) ** 2
    singles = np.where(latent, squares.max(axis=0) / np.maximum(squares.sum(axis=0), 1e-300), 0.0)
    tail, rare = 0.0, 0
    for column in np.flatnonzero(singles > SINGLE):
        shape = tail_shape(squares[:, column])
        if shape > tail:
            tail, rare = shape, int(column)
    found = Agreement(
        float(difference[top]),
        float(ratios[worst]),
        float((np.abs(first - second) / sd).max()),
        float((error / sd).max()),
        names[top],
        names[worst],
        tail,
        names[rare],
        *_spread(table, weights, names, np.full(len(names), 1e-300)),
        *_chance(error / sd, weights),
    )
    return found if own is None else _on_the_same_draws(found, table[:half], own, names, difference, np.log(ratios))


def compare_exact(
    draws: dict[str, np.ndarray],
    weights: np.ndarray,
    exact: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ranges: Mapping[str, float],
) -> Agreement:
    """The same for q whose means and sds are known (`exact`); the draws are compared as the weights have them.

    `ranges` has the discrete latents, with the distance between their least and largest value: they are compared in
    units of at least `DISCRETE`, since the sd of a label that is all but certain says nothing.
    """
    known = {name: draws[name] for name in draws if name in exact}
    nothing = Agreement(0.0, 1.0, 0.0, 0.0, "", "")
    if not known:
        return nothing
    table, names = flatten({name: np.asarray(values, float) for name, values in known.items()})
    q_mean = np.concatenate([exact[name][0].reshape(-1) for name in known])
    q_sd = np.concatenate([exact[name][1].reshape(-1) for name in known])
    spans = np.concatenate([np.full(exact[name][0].size, ranges.get(name, 0.0)) for name in known])
    mean, sd, error = weighted_moments(table, weights)
    use = np.isfinite(q_mean) & np.isfinite(q_sd) & (sd > 0)
    if not use.any():
        return nothing
    names = [name for name, used in zip(names, use, strict=True) if used]
    least = np.where(spans > 0, DISCRETE, 1e-300)
    scale = np.maximum(sd, least)[use]
    ratio, distance = np.maximum(q_sd, least)[use] / scale, np.abs(q_mean - mean)[use] / scale
    top, worst = int(distance.argmax()), int(np.abs(np.log(ratio)).argmax())
    errors = float((error[use] / scale).max())
    known_to = _spread(table[:, use], weights, names, least[use])
    chance = _chance(error[use] / scale, weights)
    return Agreement(
        float(distance[top]), float(ratio[worst]), 0.0, errors, names[top], names[worst], 0.0, "", *known_to, *chance
    )


def _chance(errors: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Errors of a difference of means in sd and of a log ratio of sds: those of weighted draws, and of as many of q."""
    half = len(weights) // 2
    least = min(1.0 / np.sum(weights**2), half)
    return float(np.hypot(errors.max(), half**-0.5)), float(1.0 / np.sqrt(2.0 * least))


def _on_the_same_draws(
    found: Agreement, table: np.ndarray, own: np.ndarray, names: list[str], distance: np.ndarray, log_ratio: np.ndarray
) -> Agreement:
    """`found`, with what draws of q say of themselves where that is known better and the two do not contradict."""
    same = paired(table, own)
    if (np.abs(distance - same.distance) > CHANCE * found.noise).any():
        return found
    if (np.abs(log_ratio - same.log_ratio) > CHANCE * found.log_noise).any():
        return found
    top, worst, vague = (int(np.abs(x).argmax()) for x in (same.distance, same.log_ratio, same.ratio_error))
    noise, log_noise = float(same.error.max()), float(same.ratio_error[vague])
    if noise < found.noise:
        found = replace(found, mean=float(same.distance[top]), site=names[top], noise=noise)
    if log_noise > found.spread:
        return found
    ratio = float(np.exp(same.log_ratio[worst]))
    return replace(
        found, ratio=ratio, ratio_site=names[worst], spread=log_noise, spread_site=names[vague], log_noise=log_noise
    )


def _spread(table: np.ndarray, weights: np.ndarray, names: list[str], least: np.ndarray) -> tuple[float, str]:
    """(largest error of a corrected log sd, its scalar), from `BATCHES` random parts of the draws.

    The spread of the parts' log sds gives the standard error; where the variance lies in a tail that is seldom drawn,
    the parts' sds are below that of all draws besides, and would go on growing with more: that growth is added.
    """
    part = np.random.default_rng(1).permutation(len(weights)) % BATCHES
    whole = np.maximum(weighted_moments(table, weights)[1], least)
    parts = []
    for index in range(BATCHES):
        keep = part == index
        share = weights[keep].sum()
        if share <= 0:
            return np.inf, names[0]
        parts.append(np.log(np.maximum(weighted_moments(table[keep], weights[keep] / share)[1], least) / whole))
    growth = np.maximum(-np.mean(parts, axis=0), 0.0)
    error = np.hypot(np.std(parts, axis=0, ddof=1) / np.sqrt(BATCHES), growth)
    worst = int(error.argmax())
    return float(error[worst]), names[worst]
