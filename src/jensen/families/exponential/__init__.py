"""Exponential-family factors over the latents' own supports, and their product."""

from jensen.families.exponential.at_mode import AtMode
from jensen.families.exponential.beta import Beta
from jensen.families.exponential.categorical import Categorical
from jensen.families.exponential.contract import AbstractExponentialFactor, Natural
from jensen.families.exponential.copies import CategoricalCopies
from jensen.families.exponential.dirichlet import Dirichlet
from jensen.families.exponential.discrete_chain import DiscreteChain
from jensen.families.exponential.discrete_joint import DiscreteJoint
from jensen.families.exponential.drawing import draw_many
from jensen.families.exponential.gamma import GammaPower
from jensen.families.exponential.gaussian_chain import GaussianChain
from jensen.families.exponential.joint_normal import JointNormal
from jensen.families.exponential.multivariate_normal import MultivariateNormal
from jensen.families.exponential.normal import Normal
from jensen.families.exponential.normal_gamma import NormalGamma
from jensen.families.exponential.normal_wishart import NormalWishart
from jensen.families.exponential.product import Product
from jensen.families.exponential.unconstrained import UnconstrainedNormal
from jensen.families.exponential.wishart import Wishart

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
