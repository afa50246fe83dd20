"""From a NumPyro program to its expected log joint: conjugacy recognised, not declared.

The program is traced once; discrete sites are enumerated; every log density is a sum of einsum monomials in statistics
of the latents. The expected log joint is then an explicit function of the moments of q, and the optimal factor of a
block is the gradient of that function in the block's mean parameters.
"""

from jensen._conjugate.algebra.model import ConjugateModel, Moments, Naturals, build_conjugate, conjugate_target
from jensen._conjugate.algebra.target import ConjugateTarget

__all__ = ["ConjugateModel", "ConjugateTarget", "Moments", "Naturals", "build_conjugate", "conjugate_target"]
