"""Moments of a fit by an encoder that are known without draws."""

import numpy as np

from jensen._amortised.answer.all_rows import AllRows
from jensen._amortised.row_posterior import RowPosterior
from jensen._program.bijection import on_the_line


def moments(rows: AllRows, posterior: RowPosterior) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and sd of the latents on the real line, (*site)."""
    found, layout, start = {}, rows.evaluator.model.layout, 0
    loc, sds = np.asarray(rows.q.shared.loc, float), rows.q.shared.scales()
    for site in layout.shared:
        part = slice(start, start + site.size)
        start += site.size
        if on_the_line(site.support):
            found[site.name] = (loc[part].reshape(site.shape), sds[part].reshape(site.shape))
    for site in layout.continuous:
        if on_the_line(site.support):
            columns = (posterior.loc[:, site.start : site.stop], posterior.scale[:, site.start : site.stop])
            shaped = [np.moveaxis(c.reshape(rows.size, *site.shape), 0, site.axis) for c in columns]
            found[site.name] = (shaped[0], shaped[1])
    return found
