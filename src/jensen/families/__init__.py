"""Approximations q: Gaussians on the unconstrained space, and their push-forward onto the latents' support."""

from jensen.families.blocks import Blocks
from jensen.families.chains import Chains
from jensen.families.flow import Flow
from jensen.families.full_rank import FullRank
from jensen.families.gaussian import AbstractGaussian
from jensen.families.location_scale import AbstractLocationScale
from jensen.families.low_rank import LowRank
from jensen.families.mean_field import MeanField
from jensen.families.mixture import Mixture, Stratum
from jensen.families.on_support import OnSupport
from jensen.families.structured import Structured
from jensen.families.student_t import StudentT

__all__ = [
    "AbstractGaussian",
    "AbstractLocationScale",
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
