"""Log densities as plain algebra of values: what makes a NumPyro distribution visible to coordinate ascent."""

from jensen._conjugate.algebra.densities import counts, matrices, scalars
from jensen._conjugate.algebra.densities.registry import DENSITIES, Density

__all__ = ["DENSITIES", "Density", "counts", "matrices", "scalars"]
