"""A quick look: could this model be conditionally conjugate?"""

from typing import Any

import jax
import numpyro.distributions as dist

from jensen._conjugate.algebra.densities import DENSITIES
from jensen._program.analysis import feasible_trace

NO_FACTOR = {dist.HalfNormal, dist.Laplace, dist.Uniform}
"""Distributions that the algebra reads but for which, as priors, no exponential family has the matching statistics."""


def promising(fn: Any, kwargs: dict[str, Any]) -> bool:
    """Whether every latent's prior is one that coordinate ascent has a factor for.

    One abstract run of the program, which costs a small part of deriving the updates: models with half-Cauchy scales,
    say, are told apart at once. A program that cannot be run abstractly is not promising.
    """
    answer: list[bool] = []

    def run(arrays: dict[str, Any]) -> None:
        sites = feasible_trace(fn, {**kwargs, **arrays}).values()
        answer.append(all(_has_factor(s["fn"]) for s in sites if s["type"] == "sample" and not s["is_observed"]))

    arrays = {k: v for k, v in kwargs.items() if hasattr(v, "dtype")}
    try:
        jax.eval_shape(run, arrays)
    except Exception:
        return False
    return answer[0]


def _has_factor(distribution: Any) -> bool:
    while isinstance(distribution, (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
        distribution = distribution.base_dist
    return type(distribution) in DENSITIES and type(distribution) not in NO_FACTOR
