"""The least value that the data allow each row of a count without an upper end: y successes of z trials say z ≥ y."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpyro.distributions import constraints

from jensen._program.analysis import is_fixed
from jensen._program.dependence import Links
from jensen._program.host_function import check_points
from jensen._program.structure import Site, Structure

HIGHEST = 2**24
"""Where the search for a value that is allowed ends."""
FURTHER = (1, 2, 5, 17, 101)
"""Distances above a least value at which the row must be allowed too."""
Terms = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""Latents -> elementwise log densities."""


def floors(structure: Structure, terms: Terms, links: Callable[[dict[str, Any]], Links]) -> dict[str, np.ndarray]:
    """Site -> the least value of each of its rows where the log joint is finite, for sites where that is not the start.

    A factor with mass below has the bound -∞, however well it fits above. Only rows that are independent given the rest
    are looked at, and only what is allowed from some value on.
    """
    counts = [site for site in structure.latents if _start(site) is not None]
    if not counts or not all(is_fixed(site.support) for site in structure.latents):
        return {}
    point = {name: np.asarray(values[0]) for name, values in check_points(structure).items()}
    point |= {site.name: np.full(site.shape, _start(site)) for site in counts}
    if all(np.isfinite(term).all() for term in terms(point).values()):
        return {}
    rows = {site.name: site.shape[: len(site.shape) - site.support.event_dim] for site in structure.latents}
    dependence, found = links(rows), {}
    for site in reversed(counts):  # what is drawn last is bounded first
        if dependence.separable(site.name):
            start, name = point[site.name], site.name
            low = _lowest(lambda v, n=name: _allowed(terms({**point, n: v}), dependence, n, v.shape), start)
            if low is not None and (low > start).any():
                found[name] = point[name] = low
    return found


def _start(site: Site) -> int | None:
    """The least value of a count without an upper end; `None` for other sites."""
    bound: Any = getattr(site.support, "lower_bound", 0)
    open_above = isinstance(site.support, constraints.integer_greater_than)
    return int(bound) if open_above and np.ndim(bound) == 0 else None


def _allowed(terms: dict[str, np.ndarray], links: Links, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Whether no entry that depends on a row is -∞."""
    allowed = np.ones(int(np.prod(shape, dtype=int)), bool)
    for term, rows in links.rows.items():
        if name in rows:
            index = np.broadcast_to(rows[name], np.shape(terms[term]))
            allowed[index[(index >= 0) & ~np.isfinite(terms[term])]] = False
    return allowed.reshape(shape)


def _lowest(allowed: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray | None:
    """The least allowed values, by doubling and halving; `None` where there is none, or where gaps follow."""
    low, high = start - 1, start.copy()
    while not (fine := allowed(high)).all():
        if high.max() > HIGHEST:
            return None
        low, high = np.where(fine, low, high), np.where(fine, high, start + 2 * (high - start) + 1)
    while (open_ := high - low > 1).any():
        middle = np.where(open_, (low + high) // 2, high)
        fine = allowed(middle)
        low, high = np.where(open_ & ~fine, middle, low), np.where(open_ & fine, middle, high)
    return high if all(allowed(high + step).all() for step in FURTHER) else None
