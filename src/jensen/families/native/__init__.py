"""Factors on the supports of the latents themselves, discrete ones included, and their product."""

from jensen.families.native.choose import native_factor, native_product
from jensen.families.native.circular import VonMises
from jensen.families.native.contract import SMALL, AbstractFactor, AbstractFreeForm
from jensen.families.native.counts import Geometric, NegativeBinomial, Poisson
from jensen.families.native.discretised import DiscretisedNormal
from jensen.families.native.finite import Bernoulli, Binomial, Categorical
from jensen.families.native.positive import Beta, Dirichlet, Gamma
from jensen.families.native.product import Product
from jensen.families.native.real import LogNormal, Normal, Transformed

__all__ = [
    "SMALL",
    "AbstractFactor",
    "AbstractFreeForm",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Dirichlet",
    "DiscretisedNormal",
    "Gamma",
    "Geometric",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "Product",
    "Transformed",
    "VonMises",
    "native_factor",
    "native_product",
]
