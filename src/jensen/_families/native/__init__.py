"""Factors on the supports of the latents themselves, discrete ones included, and their product."""

from jensen._families.native.choose import native_factor, native_product
from jensen._families.native.circular import VonMises
from jensen._families.native.contract import SMALL, AbstractFactor, AbstractFreeForm
from jensen._families.native.counts import Geometric, NegativeBinomial, Poisson
from jensen._families.native.discretised import DiscretisedNormal
from jensen._families.native.finite import Bernoulli, Binomial, Categorical
from jensen._families.native.positive import Beta, Dirichlet, Gamma
from jensen._families.native.product import Product
from jensen._families.native.real import LogNormal, Normal, Transformed

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
