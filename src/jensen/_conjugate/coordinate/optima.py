"""Other optima that random starts found, and what they weigh."""

from collections.abc import Sequence

import numpy as np

from jensen._conjugate.coordinate.ascent import Ascent, State
from jensen._core import Certificate
from jensen._families.exponential import Product
from jensen._program.on_host import HostProgram

_MEANS = HostProgram(Product.means)
FAR = 30.0
"""Nats below the best bound from which on an optimum weighs nothing."""


def elsewhere(ascent: Ascent, best: State, others: Sequence[State]) -> tuple[Certificate, list[State]]:
    """(what is known of other optima, those that hold evidence of their own).

    `share_elsewhere`: the part of Σ exp(bound) that optima other than the best hold; `relabelled`: how many starts
    reached the same bound with the same means in another order.

    A bound stands for the evidence near its optimum. Two optima are told apart by their means: equal as they stand
    (one optimum), equal once sorted (one, with its labels permuted), or different.
    """
    tolerance = max(1e-6 * ascent.model.rows, 100.0 * ascent.noise(best.elbo))
    own, seen, share, relabelled = _means(ascent, best), [], 0.0, 0
    apart: list[State] = []
    for other in others:
        gap = best.elbo - other.elbo
        if not np.isfinite(gap) or gap > FAR:
            continue
        theirs = _means(ascent, other)
        if any(_same(theirs, known) for known in (own, *seen)):
            continue
        seen.append(theirs)
        if abs(gap) < tolerance and _same(_sorted(theirs), _sorted(own)):
            relabelled += 1
        elif not any(_same(_sorted(theirs), _sorted(known)) for known in seen[:-1]):
            share += float(np.exp(-gap))
            apart.append(other)
    return Certificate(share_elsewhere=share / (1.0 + share), relabelled=float(relabelled)), apart


def _means(ascent: Ascent, state: State) -> dict[str, np.ndarray]:
    """E[z] of the continuous latents that the ascent holds."""
    names = [n for n in ascent.order if not ascent.model.blocks[n].discrete]
    factors = {name: ascent.model.factor(name, state.naturals[name]) for name in names}
    product = Product(factors, tuple((name, ascent.model.blocks[name].sites) for name in names))
    return {name: np.nan_to_num(np.asarray(value, float)) for name, value in _MEANS.on_host(product).items()}


def _sorted(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.sort(value, axis=None) for name, value in means.items()}


def _same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    """Equal to a thousandth of the spread of a site's own means."""
    return all(
        np.allclose(left[name], right[name], rtol=1e-3, atol=1e-3 * (1e-6 + np.abs(right[name]).max(initial=0.0)))
        for name in left
    )
