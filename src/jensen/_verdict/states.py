"""Probabilities of discrete latents: under q, corrected, and by a search in every state for itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy import special

from jensen._base.errors import JensenError
from jensen._core import driven
from jensen._families.heavier import student_draws, student_log_prob
from jensen._model import Target, build
from jensen._model.by_site import by_site, joined
from jensen._model.program import BoundProgram
from jensen._model.restricted import held_at, weighted
from jensen._modes.climbs import climb, survey
from jensen._modes.relabelling import Labelling, anywhere
from jensen._program.structure import Site
from jensen._verdict.importance import Pool

LISTED = 64
"""Entries times values of a discrete latent up to which its probabilities are listed and promised."""
SEARCHED, DIM = 24, 100
"""Entries times values of all of them, and coordinates, up to which every state is searched for itself."""
DRAWS = 512
BATCHES, BUDGET = 8, 4e8
"""Batches of draws whose means are compared, and the work of all conditional probabilities."""


@dataclass(frozen=True)
class Probabilities:
    """Of the values (K,) of every entry of one discrete latent.

    Attributes:
        values: the values, (K,). shape: of the site. own, own_error: under q with its Monte Carlo standard error,
            (entries, K). corrected, error: by importance weights.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    own: np.ndarray
    own_error: np.ndarray
    corrected: np.ndarray
    error: np.ndarray

    def names(self, site: str) -> list[str]:
        """`site[i]=value` for every entry and value, in the order of the flat arrays."""
        entries = [f"{site}[{','.join(map(str, i))}]" if self.shape else site for i in np.ndindex(self.shape)]
        return [f"{entry}={value:g}" for entry in entries for value in np.asarray(self.values, float)]


def from_draws(values: np.ndarray, own: np.ndarray | None, draws: np.ndarray, pool: Pool) -> Probabilities:
    """By frequencies of a pool's draws (draws, *shape), and of draws of q (`own`), if not of the pool's first half."""

    def states(of: np.ndarray) -> np.ndarray:
        return (of.reshape(len(of), -1, 1) == values).astype(float)

    every = states(draws)
    mine = states(own) if own is not None else every[: pool.half]
    corrected = np.tensordot(pool.weights, every, 1)
    error = np.sqrt(np.tensordot(pool.weights**2, (every - corrected) ** 2, 1))
    return Probabilities(
        values, draws.shape[1:], mine.mean(axis=0), mine.std(axis=0) / np.sqrt(len(mine)), corrected, error
    )


def from_marginals(target: Target, pool: Pool, names: list[str], seed: int) -> dict[str, Probabilities]:
    """By exact conditional probabilities at draws of the continuous latents (Rao-Blackwell), in batches."""
    rng, sites = np.random.default_rng(seed), {site.name: site for site in target.structure.summed}
    most = int(np.clip(BUDGET // target.work, 64, pool.half) // BATCHES * BATCHES)
    own = rng.permutation(pool.half)[:most]
    other = np.concatenate([own, pool.half + rng.permutation(len(pool.points) - pool.half)[:most]])
    plain = _batches(target, pool, own.reshape(BATCHES, -1), np.ones(len(pool.points)))
    weighed = _batches(target, pool, rng.permutation(other).reshape(BATCHES, -1), pool.weights)
    found = {}
    for name in names:
        (mine, noise), (corrected, error) = plain[name], weighed[name]
        found[name] = Probabilities(np.asarray(sites[name].values), sites[name].shape, mine, noise, corrected, error)
    return found


def _batches(
    target: Target, pool: Pool, rows: np.ndarray, weights: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weighted means (entries, K) of conditional probabilities over all batches, and their error by comparing these."""
    shares = np.array([weights[batch].sum() for batch in rows])
    shares = shares / max(shares.sum(), 1e-300)
    parts = [target.marginals(pool.points[batch], np.maximum(weights[batch], 1e-300)) for batch in rows]
    found = {}
    for name in parts[0]:
        each = np.stack([np.asarray(part[name], float).reshape(-1, part[name].shape[-1]) for part in parts])
        mean = np.tensordot(shares, each, 1)
        error = np.sqrt(np.tensordot(shares**2, (each - mean) ** 2, 1) * BATCHES / (BATCHES - 1))
        found[name] = mean, error
    return found


def exchanged(target: Target, labelling: Labelling, points: np.ndarray, names: Collection[str]) -> set[str]:
    """Those of the summed latents all values of which are numbered anew with the states of a labelling.

    Where log Σ_z p(x, z, θ) e^{w(z)} with random weights w stays the same when w is renumbered along with θ, by swaps
    that generate all orders, at points of the posterior and anywhere, p(z = k | x) is the same integral for every k.
    """
    sites = [site for site in target.structure.summed if site.name in names and len(site.values) == labelling.size]  # type: ignore[arg-type]
    if len(labelling.classes[0]) < labelling.size:
        return set()
    rng, values = np.random.default_rng(0), by_site(target, np.concatenate([points, anywhere(target.dim)]))

    def logs(site: Site, weights: np.ndarray, order: np.ndarray) -> np.ndarray:
        moved, log_det = joined(target, labelling.permuted(values, order.tolist()))
        return weighted(target, {site.name: weights[order]}).for_values().value(moved) - log_det

    same, found = np.arange(labelling.size), set()
    for site in sites:
        weights = rng.normal(size=(labelling.size, *site.shape))
        here = logs(site, weights, same)
        swaps = [np.where(same == i, i + 1, np.where(same == i + 1, i, same)) for i in same[:-1]]
        gaps = [np.abs(logs(site, weights, order) - here) / (1.0 + np.abs(here)) for order in swaps]
        found |= {site.name} if np.all(np.array(gaps) < 0.1 * np.sqrt(target.eps)) else set()
    return found


@dataclass(frozen=True)
class Searched:
    """p(z_i = k | x) by the evidence of every state, each found from its own mode: (entries, K), and its error.

    `total` is the evidence of all states of an entry in nats, the least over the entries: log p(x), if none is missed.
    """

    probability: np.ndarray
    error: np.ndarray
    total: float = np.inf


def search(program: BoundProgram | None, known: dict[str, Probabilities], seed: int) -> dict[str, Searched]:
    """log p(x, z_i = k) for every entry i and value k, all else summed or integrated out; `{}` where that is too much.

    The density with z_i held at k is climbed by itself, and integrated by importance draws around its modes. Draws of q
    see of another state only what is likely where q is; here the other latents go where that state wants them.
    """
    sizes = {name: found.own.size for name, found in known.items()}
    if program is None or not program.program.handled or not sizes or sum(sizes.values()) > SEARCHED:
        return {}
    try:
        target = build(program.fn, program.kwargs, program.precision)
    except JensenError:  # too many joint states, say
        return {}
    listed = {site.name for site in target.structure.summed}
    if not set(known) <= listed or target.dim > DIM or target.heavy:
        return {}
    found = {}
    for name, probabilities in known.items():
        entries, count = probabilities.own.shape
        logs = np.array([[_evidence(held_at(target, name, i, k), seed) for k in range(count)] for i in range(entries)])
        if not np.isfinite(logs[..., 0]).any(axis=1).all():
            continue
        p = special.softmax(logs[..., 0], axis=1)
        noise = np.where(np.isfinite(logs[..., 1]), logs[..., 1], 1.0)
        rest = np.sqrt(np.maximum((p**2 * noise**2).sum(axis=1, keepdims=True) - p**2 * noise**2, 0.0))
        total = float(np.min(np.asarray(special.logsumexp(logs[..., 0], axis=1))))
        found[name] = Searched(p, p * np.hypot((1.0 - p) * noise, rest), total)
    return found


def _evidence(target: Target, seed: int) -> tuple[float, float]:
    """(log ∫ p, its error) by draws of Student-t around every mode found; -∞ where the density is 0 everywhere."""
    if target.dim == 0:
        return float(target.value(np.zeros((1, 0)))[0]), 0.0
    try:
        _, paths = driven(climb(target, seed, 4))
        modes = survey(target, paths).modes
    except (JensenError, IndexError):
        return -np.inf, 0.0
    around = [mode.gaussian() for mode in modes]
    points = np.concatenate([student_draws(q, DRAWS, seed + i) for i, q in enumerate(around)])
    logs = target.value(points) - special.logsumexp([student_log_prob(q, points) for q in around], axis=0)
    ratio = np.exp(logs - logs.max())
    value = float(logs.max() + np.log(ratio.mean()) + np.log(len(around)))
    return value, float(ratio.std() / np.sqrt(len(ratio)) / ratio.mean())
