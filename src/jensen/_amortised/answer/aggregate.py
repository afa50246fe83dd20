"""The ELBO of a data set taken apart: what the rows' codes say about them, and their aggregate posterior."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jensen._amortised.answer.all_rows import AllRows
from jensen._amortised.ascent.evaluate import Weighed, shared_draws
from jensen._amortised.row_posterior import RowPosterior, row_axes
from jensen._math.precision import working
from jensen._verdict.surgery import Surgery, log_aggregate

OTHERS = 4096
"""Rows at most that stand for all of them in the aggregate posterior."""


def surgery(rows: AllRows, posterior: RowPosterior, num_draws: int | None) -> Surgery:
    """Mutual information of rows and codes, and the divergence of the aggregate posterior from the prior."""
    size = rows.size
    count = max(1, (num_draws or 2000) // size) if num_draws or size < 2000 else 1
    shared = shared_draws(rows.q, count, rows.seed + 41)
    found = rows.weigh(shared, rows.seed + 41)
    rng = np.random.default_rng([rows.seed, 43])
    draws = np.sort(rng.permutation(size)[: max(1, min(size, 2000))])
    others = np.sort(rng.permutation(size)[:OTHERS])
    own, rest = _densities(posterior, found, draws, others, row_axes(rows.evaluator))
    aggregate = log_aggregate(own, rest, size)
    information = own - aggregate
    divergence = -found.latent[:, draws].reshape(-1)
    marginal = divergence - information
    observed = float(found.observed.mean())
    per_row = float(-found.latent.mean())
    common = float(found.shared.mean()) / size
    n = len(information)
    return Surgery(
        observed - per_row + common,
        observed,
        per_row,
        float(information.mean()),
        float(information.std() / np.sqrt(n)),
        float(per_row - information.mean()),
        float(marginal.std() / np.sqrt(n)),
        common,
        size,
        posterior.loc.var(axis=0),
    )


def _densities(
    posterior: RowPosterior, found: Weighed, draws: np.ndarray, others: np.ndarray, axes: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(log q(z | x_n) of draws under their own rows, the same under other rows (draws, others)), all draws in a row."""
    factors = posterior.factors
    precision = posterior.evaluator.target.precision
    codes = {
        name: np.moveaxis(value, axes[name] + 1, 1) for name, value in found.values.items() if name in factors.codes
    }

    def under(point: Any, code: Any) -> Any:
        """One row's draw under every row's factor, (rows,)."""
        own = factors.log_prob(point[None])
        full = {}
        for name, value in code.items():
            rows = np.broadcast_shapes((posterior.size, *value.shape))
            full[name] = jax.numpy.moveaxis(jax.numpy.broadcast_to(value, rows), 0, axes[name])
        return own + factors.codes_log_prob(full) if full else own

    own_all, rest_all = [], []
    with working(precision):
        run = jax.jit(lambda p, c: jax.lax.map(lambda item: under(*item), (p, c)))
        for s in range(found.point.shape[0]):
            table = np.asarray(run(found.point[s][draws], {n: v[s][draws] for n, v in codes.items()}), float)
            own_all.append(table[np.arange(len(draws)), draws])
            rest = table[:, others]
            if len(others) == posterior.size:  # every other row: without the draw's own
                rest = np.where(others[None] == draws[:, None], -np.inf, rest)
                rest = rest + np.log(rest.shape[1] / max(rest.shape[1] - 1.0, 1.0))
            rest_all.append(rest)
    return np.concatenate(own_all), np.concatenate(rest_all)
