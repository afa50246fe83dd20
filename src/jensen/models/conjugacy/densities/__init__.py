"""Log densities as plain algebra of values: what makes a NumPyro distribution visible to coordinate ascent."""

from jensen.models.conjugacy.densities import counts, matrices, scalars
from jensen.models.conjugacy.densities.registry import DENSITIES, Density

__all__ = ["DENSITIES", "Density", "counts", "matrices", "scalars"]
