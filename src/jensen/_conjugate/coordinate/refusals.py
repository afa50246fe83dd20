"""What coordinate ascent says where it cannot go on."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._base.errors import JensenError, ModelError

RUNAWAY = 1e6
"""Moments above this are named where the bound is lost in rounding."""


def improper(name: str, place: str, where: str) -> ModelError:
    """What to say of a block whose optimal factor cannot be normalised."""
    return ModelError(
        f"The conditional of block '{name}' is improper: its optimal factor cannot be normalised.{place}",
        where,
        "Give the block a proper prior, and look for data that leave it undetermined.",
    )


def cancelling(rounding: float, where: str, moments: Mapping[str, Any]) -> ModelError:
    """What to say where the terms of the bound cancel so much that its value is lost in rounding."""
    largest = {n: max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(m)) for n, m in moments.items()}
    name = max(largest, key=lambda n: largest[n])
    off = largest[name] > RUNAWAY
    return ModelError(
        f"Large terms cancel: the bound is uncertain by {rounding:.2g} nats from rounding.",
        where + (f" The moments of block '{name}' have grown to {largest[name]:.2g}." if off else ""),
        (
            "If they run off, the posterior is improper or collapses on a point: give the block a proper prior. "
            if off
            else ""
        )
        + "Subtract from the data their mean, and divide them by their standard deviation.",
    )


def no_maximum(name: str, place: str, where: str) -> ModelError:
    """What to say of a parameter that runs off."""
    return ModelError(
        f"The bound has no maximum in the parameter '{name}': it runs off to the edge of its range.{place}",
        where,
        "A component that holds a single row, or none, drives its variance to zero and the likelihood to infinity: use "
        "fewer components, tie the variances, give the parameter a prior (numpyro.sample, then learn=[...]), or start "
        "elsewhere.",
    )


def finite(elbo: float, order: Iterable[str]) -> float:
    """The bound, or an error where it is not finite."""
    if not np.isfinite(elbo):
        raise JensenError(
            f"The bound became {elbo}.",
            f"After a sweep over {', '.join(order)}.",
            "Rescale the data, or start from other values.",
        )
    return elbo
