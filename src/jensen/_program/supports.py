"""Supports that are none: an interval without an inside, and what is no constraint at all."""

from typing import Any

import numpy as np
from jax.core import Tracer

from jensen._base.errors import ModelError, OptionError


def check_support(support: Any, where: str) -> None:
    """Raise for bounds that leave nothing between them; bounds that are traced or unknown pass."""
    if not hasattr(support, "is_discrete"):
        raise OptionError(
            f"A support must be a constraint, not a {type(support).__name__}.",
            where,
            "Take one of numpyro.distributions.constraints, constraints.positive say.",
        )
    discrete = support.is_discrete
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if low is None or high is None or any(isinstance(end, Tracer) for end in (low, high)):
        return
    low, high = np.asarray(low), np.asarray(high)
    with np.errstate(invalid="ignore"):
        empty = np.atleast_1d(~(low <= high) if discrete else ~(low < high))
    if empty.any():
        index = tuple(int(i) for i in np.argwhere(empty)[0])
        ends = [np.broadcast_to(end, empty.shape)[index] for end in (low, high)]
        entry = f" First at entry {', '.join(map(str, index))}." if np.size(empty) > 1 else ""
        raise ModelError(
            f"No value lies between the bounds {ends[0]:g} and {ends[1]:g} of the support.",
            f"{where}{entry}",
            "Give the lower bound first, and one that is smaller.",
        )
