"""The algebra of a field's precision: its entries, factor, and everything that the factor is for, latent by latent."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import sparse

from jensen._base.typing import Array, Scalar
from jensen._nested import factor as factors
from jensen._nested.curvature import Curvature
from jensen._nested.elimination import Elimination, eliminated, factorising
from jensen._nested.factor import Entries, Factor
from jensen._nested.selected_inverse import held_log_det, held_root
from jensen._nested.unsummed import Unsummed

MANY, APART, LINE = 300, 4, 6
"""Latents from which on weights are found for stretches of the order, and blocks in one of them; of fewer latents every
block is a stretch, where there are so many."""


class Order(eqx.Module):
    """How the precision H = -∂²f/∂z² of D latents is told from f and factorised, H = L Lᵀ; all arrays are (D, m).

    Attributes:
        curvature: where the entries come from. elimination: the order of the latents.
        quadratic: whether H is the same at every z. work: numbers that are computed for one value of f.
    """

    curvature: Curvature
    elimination: Elimination
    quadratic: bool = eqx.field(static=True, default=False)
    work: int = eqx.field(static=True, default=0)

    @classmethod
    def dense(cls, size: int) -> "Order":
        """All latents in one block, whose entries are products with every axis."""
        empty, colours = np.zeros(0, np.int32), np.zeros((0, size))
        row, column = np.tril_indices(size)
        order = eliminated(sparse.csr_matrix(np.ones((size, size), bool)))
        slot = order.slots(row, column)
        pairs, probe = np.zeros((0, 2), np.int32), empty
        take = (column * size + row).astype(np.int32)
        own = Curvature((), None, (), len(order.keys), colours, pairs, probe, None, take, slot)
        return cls(own, order)

    @property
    def size(self) -> int:
        """D."""
        return self.elimination.size

    @property
    def blocks(self) -> int:
        """Blocks of what is left when others have been eliminated; one where it is dense."""
        return self.elimination.line.blocks

    @property
    def width(self) -> int:
        """Latents in one of these blocks."""
        return self.elimination.line.width

    def without(self, latents: np.ndarray) -> float:
        """Multiplications, or what takes as long, of a factorisation if these latents (by position) were not there."""
        row, column = np.divmod(np.asarray(self.elimination.keys)[np.unique(self.curvature.slot)], self.size)
        place = np.full(self.size, -1)
        kept = np.delete(np.arange(self.size), latents)
        place[kept] = np.arange(len(kept))
        row, column = place[row], place[column]
        both = (row >= 0) & (column >= 0)
        ends = np.r_[row[both], column[both], place[kept]], np.r_[column[both], row[both], place[kept]]
        return factorising(sparse.csr_matrix((np.ones(len(ends[0]), bool), ends), shape=(len(kept), len(kept))))

    @property
    def many(self) -> bool:
        """Whether the latents are so many that sums over them are nearly Gaussian."""
        return self.size >= MANY

    @property
    def parts(self) -> int:
        """Stretches of the order whose weights are told apart; one where the latents are few, or in no line."""
        stretches = self.elimination.stretches
        return max(1, stretches // APART if self.many else stretches if stretches >= LINE else 1)

    def precision(self, density: Unsummed, z: Array) -> Entries:
        """H at z (D,)."""
        return self.curvature.entries(density, z)

    def cholesky(self, entries: Entries, damping: Array | float = 0.0) -> Factor:
        """L, with `damping` times every diagonal entry's size added; not a number where H is not positive definite."""
        values = entries.values
        own = jnp.abs(values[self.elimination.diagonal])
        values = values.at[self.elimination.diagonal].add(damping * (own + 1e-12 * jnp.max(own)))
        return factors.cholesky(self.elimination, entries._replace(values=values))

    def nothing(self, dtype: Any) -> Factor:
        """Zeros in the shape of L, for loops to begin with."""
        return factors.nothing(self.elimination, len(self.curvature.single), dtype)

    def log_det(self, factor: Factor) -> Scalar:
        """log |H|."""
        return factors.log_det(factor)

    def log_det_of(self, entries: Entries, factor: Factor) -> Scalar:
        """log |H| with the derivative with regard to the entries whose factor this is; that of the factor is not used.

        It costs the entries of H⁻¹ where H has some, and no derivative of a factorisation. A term U C Uᵀ adds
        log |1 + C G| for G = Uᵀ H₀⁻¹ U = 2 Uᵀ X - Xᵀ H₀ X, whose derivative is that with X = H₀⁻¹ U held.
        """
        own, columns, weights = entries
        found = held_log_det(self.elimination, own, factor)
        if not columns.shape[1]:
            return found
        bare = lax.stop_gradient(factor._replace(basis=factor.basis[:, :0], inner=factor.inner[:0, :0]))
        known = lax.stop_gradient(self.solve(bare, columns))
        sparse_part = self.product(Entries(own, columns[:, :0], weights[:0]), known)
        gram = columns.T @ known + known.T @ columns - known.T @ sparse_part
        return found + jnp.linalg.slogdet(jnp.eye(len(weights)) + weights[:, None] * gram)[1]

    def root(self, factor: Factor, slope: Array, root: Array) -> Array:
        """The field's mode with its derivative with regard to the gradient there."""
        return held_root(self.elimination, factor, slope, root)

    def solve(self, factor: Factor, right: Array) -> Array:
        """H⁻¹ b."""
        return factors.solve(self.elimination, factor, right)

    def solve_lower(self, factor: Factor, right: Array) -> Array:
        """L⁻¹ b."""
        return factors.solve_lower(self.elimination, factor, right)

    def solve_upper(self, factor: Factor, right: Array) -> Array:
        """L⁻ᵀ b: standard normal draws become draws with precision H."""
        return factors.solve_upper(self.elimination, factor, right)

    def multiply(self, factor: Factor, right: Array) -> Array:
        """L b."""
        return factors.multiply(self.elimination, factor, right)

    def in_parts(self, values: Array) -> Array:
        """Sums of (D,) over stretches of the order, (S,)."""
        part = jnp.minimum(self.elimination.stretch * self.parts // self.elimination.stretches, self.parts)
        return jnp.zeros(self.parts + 1, values.dtype).at[part].add(values)[:-1]

    def product(self, entries: Entries, right: Array) -> Array:
        """H b, from the entries."""
        row, column = jnp.divmod(jnp.asarray(self.elimination.keys), self.size)
        off = jnp.where((row != column), entries.values, 0.0)[:, None]
        found = jnp.zeros_like(right).at[row].add(entries.values[:, None] * right[column])
        found = found.at[column].add(off * right[row])
        return found + entries.columns @ (entries.weights[:, None] * (entries.columns.T @ right))
