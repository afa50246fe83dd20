"""Approximations q: Gaussians on the unconstrained space, and their push-forward onto the latents' support."""

from jensen._families import (
    AbstractGaussian,
    Blocks,
    Chains,
    Flow,
    FullRank,
    LowRank,
    MeanField,
    Mixture,
    OnSupport,
    Stratum,
    Structured,
    StudentT,
)

__all__ = [
    "AbstractGaussian",
    "Blocks",
    "Chains",
    "Flow",
    "FullRank",
    "LowRank",
    "MeanField",
    "Mixture",
    "OnSupport",
    "Stratum",
    "Structured",
    "StudentT",
]
