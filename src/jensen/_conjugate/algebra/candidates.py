"""A quick look: could this model be conditionally conjugate?"""

from typing import Any

import numpyro.distributions as dist

from jensen._conjugate.algebra.densities import DENSITIES
from jensen._program.structures import structure_of

NO_FACTOR = {dist.HalfNormal, dist.Laplace, dist.Uniform}
"""Distributions that the algebra reads but for which, as priors, no exponential family has the matching statistics."""


def promising(fn: Any, kwargs: dict[str, Any]) -> bool:
    """Whether every latent's prior is one that coordinate ascent has a factor for.

    The structure costs a small part of deriving the updates, and serves whatever is tried next: models with half-Cauchy
    scales, say, are told apart at once. A program that cannot be run abstractly is not promising.
    """
    try:
        structure, _ = structure_of(fn, kwargs)
    except Exception:
        return False
    return all(site.law in DENSITIES and site.law not in NO_FACTOR for site in structure.drawn)
