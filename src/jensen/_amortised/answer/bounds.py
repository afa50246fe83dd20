"""Bounds on the evidence of a fit by an encoder, and the ELBO taken apart."""

import numpy as np

from jensen._amortised.answer.all_rows import AllRows
from jensen._amortised.ascent.evaluate import shared_draws
from jensen._amortised.row_posterior import RowPosterior
from jensen._amortised.rows import log_mean
from jensen._bounds import ChiUpper
from jensen._math.precision import working
from jensen._verdict.evidence import Decomposition, Evidence

MEASURED = 50_000
"""Draws of rows, all together, on which the bound is measured."""


def elbo(rows: AllRows, seed: int) -> tuple[float, float]:
    """On fresh draws of all rows."""
    count = rows.count(16, int(np.clip(MEASURED // rows.size, 16, 512)))
    found = rows.weigh(shared_draws(rows.q, count, rows.seed + 101 + seed), rows.seed + 101 + seed)
    if rows.q.shared.dim:
        totals = found.shared + found.log_weights.sum(axis=1)
        return float(totals.mean()), float(totals.std() / np.sqrt(count))
    error = float(np.sqrt(found.log_weights.var(axis=0).sum() / count))
    return float(found.shared.mean() + found.log_weights.mean(axis=0).sum()), error


def evidence(rows: AllRows, even: bool, khat: float) -> Evidence:
    """L_K with every row weighed by itself; the estimate from all inner draws; `khat` and `even` are of its weights."""
    found = rows.looked
    outer, inner, _ = found.rows.shape
    value_of_bound, elbo_se = elbo(rows, 0)
    bounds = {}
    for k in (10, 32) if outer > 1 else (10, 64):
        groups = inner // k
        parts = found.rows[:, : groups * k].reshape(outer, groups, k, -1)
        by_row = log_mean(parts, 2)
        totals = found.log_shared[:, None] + by_row.sum(axis=2)
        if outer == 1:
            error = float(np.sqrt(by_row[0].var(axis=0, ddof=1).sum() / groups)) if groups > 1 else np.inf
            bounds[k] = float(totals.mean()), error
        else:
            bounds[k] = float(totals.mean()), float(totals.mean(axis=1).std() / np.sqrt(outer))
    logs = found.log_weights
    if outer == 1:
        relative = np.exp(found.rows[0] - found.rows[0].max(axis=0))
        noise = relative.var(axis=0) / np.maximum(relative.mean(axis=0), 1e-300) ** 2 / inner
        value, error = float(logs[0]), float(np.sqrt(noise.sum()))
        upper = _row_limit(found.rows[0], found.log_shared[0]) if khat < 0.25 else np.inf
    else:
        weights = np.exp(logs - logs.max())
        value = float(logs.max() + np.log(weights.mean()))
        error = float(weights.std() / np.sqrt(outer) / weights.mean())
        upper = ChiUpper(2.0).limit(logs, 0.975, None if even else khat)
    ends = [(value_of_bound, elbo_se), *bounds.values()]
    lower = max((v - 2.4 * se for v, se in ends if np.isfinite(v) and np.isfinite(se)), default=-np.inf)
    return Evidence(value_of_bound, elbo_se, bounds, value, error, khat, (lower, upper))


def decompose(
    rows: AllRows, posterior: RowPosterior, log_evidence: float, seed: int, num_draws: int | None
) -> Decomposition:
    """On fresh draws of all rows."""
    count = num_draws or rows.count(16, 512)
    shared = shared_draws(rows.q, count, rows.seed + seed)
    found = rows.weigh(shared, rows.seed + seed)
    seen = float((found.shared_observed + found.observed.sum(axis=1)).mean())
    latent = float((found.shared_latent + found.latent.sum(axis=1)).mean())
    bound = seen + latent
    entropy = _entropy(rows, posterior)
    return Decomposition(bound, bound - entropy, entropy, seen, -latent, log_evidence, log_evidence - bound)


def _entropy(rows: AllRows, posterior: RowPosterior) -> float:
    """Of q over the unconstrained coordinates, exact for Gaussians and small codes."""
    with working(rows.target.precision):
        factors = posterior.factors
        gaussian = 0.5 * factors.loc.size * (1.0 + np.log(2 * np.pi))
        gaussian += float(np.asarray(factors.spread, float)[:, : factors.loc.shape[1]].sum())
        codes = sum(float(np.asarray(e).sum()) for f in factors.codes.values() if (e := f.entropy()) is not None)
        return gaussian + codes + float(rows.q.shared.entropy())


def _row_limit(logs: np.ndarray, shared: float) -> float:
    """Σ_n CUBO_2 of the rows, (draws, rows) log weights, at its one-sided 97.5 % confidence limit."""
    squares = np.exp(2.0 * (logs - logs.max(axis=0)))
    mean = squares.mean(axis=0)
    noise = squares.var(axis=0, ddof=1) / len(logs) / mean**2
    value = logs.max(axis=0) + 0.5 * np.log(mean) + 0.25 * noise  # the last undoes the logarithm's bias
    return float(shared + value.sum() + 1.96 * 0.5 * np.sqrt(noise.sum()))
