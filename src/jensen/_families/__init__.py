"""Approximations q: Gaussians on the unconstrained space, and their push-forward onto the latents' support."""

from jensen._families.blocks import Blocks
from jensen._families.chains import Chains
from jensen._families.flow import Flow
from jensen._families.full_rank import FullRank
from jensen._families.gaussian import AbstractGaussian
from jensen._families.location_scale import AbstractLocationScale
from jensen._families.low_rank import LowRank
from jensen._families.mean_field import MeanField
from jensen._families.mixture import Mixture, Stratum
from jensen._families.on_support import OnSupport
from jensen._families.structured import Structured
from jensen._families.student_t import StudentT

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
