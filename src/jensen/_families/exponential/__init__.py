"""Exponential-family factors over the latents' own supports, and their product."""

from jensen._families.exponential.at_mode import AtMode
from jensen._families.exponential.beta import Beta
from jensen._families.exponential.categorical import Categorical
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._families.exponential.copies import CategoricalCopies
from jensen._families.exponential.dirichlet import Dirichlet
from jensen._families.exponential.discrete_chain import DiscreteChain
from jensen._families.exponential.discrete_joint import DiscreteJoint
from jensen._families.exponential.drawing import draw_many
from jensen._families.exponential.gamma import GammaPower
from jensen._families.exponential.gaussian_chain import GaussianChain
from jensen._families.exponential.joint_normal import JointNormal
from jensen._families.exponential.multivariate_normal import MultivariateNormal
from jensen._families.exponential.normal import Normal
from jensen._families.exponential.normal_gamma import NormalGamma
from jensen._families.exponential.normal_wishart import NormalWishart
from jensen._families.exponential.product import Product
from jensen._families.exponential.unconstrained import UnconstrainedNormal
from jensen._families.exponential.wishart import Wishart

__all__ = [
    "AbstractExponentialFactor",
    "AtMode",
    "Beta",
    "Categorical",
    "CategoricalCopies",
    "Dirichlet",
    "DiscreteChain",
    "DiscreteJoint",
    "GammaPower",
    "GaussianChain",
    "JointNormal",
    "MultivariateNormal",
    "Natural",
    "Normal",
    "NormalGamma",
    "NormalWishart",
    "Product",
    "UnconstrainedNormal",
    "Wishart",
    "draw_many",
]
