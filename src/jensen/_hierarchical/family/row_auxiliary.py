"""Auxiliary densities over the rows of a plate, r(ψ | z) = Π_n r_n(ψ_n | z_n)."""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
import numpy as np

from jensen._base.typing import Array, Flat, PRNGKey, Scalar
from jensen._families import FullRank
from jensen._families.gaussian import normal_log_prob
from jensen._hierarchical.family.auxiliary import WHOLE, AbstractAuxiliary, Gaussian
from jensen._hierarchical.family.by_row import AbstractRows
from jensen._hierarchical.family.features import EXTRA, INFORMATION, SLOPE, Network
from jensen._hierarchical.family.layout import RowLayout


class AbstractRowAuxiliary(AbstractRows, AbstractAuxiliary):
    """Its one term is over the rows, so that a latent is credited with its own row alone."""

    local: ClassVar[bool] = False

    def seen(self, found: dict[str, Array]) -> Array:
        """The features of each row, (rows, F)."""
        return self.layout.gather([found[name] for name in sorted(found) if name not in EXTRA])

    @abc.abstractmethod
    def by_row(self, point: Flat, found: dict[str, Array], prior: Any) -> Array:
        """log r of each row, (rows,), each counted once."""

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term, over the rows."""
        return {WHOLE: self.weight * self.by_row(point, found, prior)}


class RowGaussian(AbstractRowAuxiliary):
    """Each r_n is a `Gaussian` with parameters of its own, as the prior's rows may have."""

    each: Gaussian
    layout: RowLayout
    weight: float = eqx.field(static=True, default=1.0)

    @classmethod
    def start(cls, rows: int, inputs: int, layout: RowLayout, seed: int, width: int = 16) -> "RowGaussian":
        """Standard normal rows; `inputs` features each."""
        parts = [Gaussian.start(layout.width, inputs, seed + row, width) for row in range(rows)]
        return cls(jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts), layout)  # type: ignore[call-arg]

    @property
    def dim(self) -> int:
        """D, over all rows."""
        return int(np.prod(self.each.bias.shape))

    def by_row(self, point: Flat, found: dict[str, Array], prior: Any) -> Array:
        """Row by row."""

        def one(own: Gaussian, row: Array, seen: Array) -> Array:
            return own.log_probs(row, {"": seen}, prior)[WHOLE]

        return jax.vmap(one)(self.each, self.layout.split(point), self.seen(found))

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """Every row."""
        seen = self.seen(found)
        keys = jr.split(key, seen.shape[0])
        rows = jax.vmap(lambda own, k, x: own.draw(k, {"": x}, prior)[0])(self.each, keys, seen)
        return self.layout.join(rows), jnp.zeros(())

    def own(self) -> Gaussian:
        """The rows' Gaussians."""
        return self.each

    def with_own(self, own: Any, weight: float) -> Self:
        """Other Gaussians."""
        return dataclasses.replace(self, each=own, weight=weight)


class RowBayes(AbstractRowAuxiliary):
    """r_n(ψ_n | z_n) by Bayes' rule for the prior N(m, L Lᵀ) of the row, with log q(z | λ) expanded at its mean.

    With ψ = m + L v, s the slope of log q(z | λ) in ψ at m and F its Fisher information there, v given z is
    N(P⁻¹ Lᵀ s, P⁻¹) to second order, P = I + Lᵀ F L: exact for Gaussian factors of known scale, and in the limit of a
    narrow prior for all. So r follows the prior wherever it moves, and at a narrow prior the bound is that of mean
    field. A network that rows share corrects mean and log scale, each by the part κ = 1 - diag P⁻¹ of it that z can
    tell at all: nothing where the prior is narrow.

    Attributes:
        bias, linear, network: of the corrections, of the mean of v first, then of its log scales, (2 W, ...); they see
            the row's features, m and log diag L.
    """

    follows: ClassVar[bool] = True
    expands: ClassVar[bool] = True
    bias: Array
    linear: Array
    network: dict[str, Array]
    layout: RowLayout
    rows: int = eqx.field(static=True)
    weight: float = eqx.field(static=True, default=1.0)

    @classmethod
    def start(cls, rows: int, inputs: int, layout: RowLayout, seed: int, width: int = 32) -> "RowBayes":
        """Bayes' rule uncorrected; `inputs` features for each row."""
        size = layout.width
        count = inputs + 2 * size
        network = Network.start(np.random.default_rng(seed), count, width, 2 * size)
        return cls(jnp.zeros(2 * size), jnp.zeros((2 * size, count)), network, layout, rows)  # type: ignore[call-arg]

    @property
    def dim(self) -> int:
        """D, over all rows."""
        return self.rows * self.layout.width

    def own(self) -> tuple[()]:
        """Nothing: rows share all of it."""
        return ()

    def with_own(self, own: Any, weight: float) -> Self:
        """The same, weighed otherwise."""
        del own
        return dataclasses.replace(self, weight=weight)

    def _each(self, found: dict[str, Array], prior: Any) -> tuple[FullRank, Array, Array, Array]:
        """(the prior's rows, means of v, roots R and R⁻¹ of its covariance R Rᵀ), all leading with the rows."""
        slopes, information = (self.layout.split(found[name]) for name in (SLOPE, INFORMATION))
        each, size = prior.gaussians(), self.layout.width

        def one(own: FullRank, slope: Array, fisher: Array, seen: Array) -> tuple[Array, Array, Array]:
            # Inverses, not solves: nothing here but `slope` and `seen` depends on z, and products say of which row.
            factor = own.scale_tril()
            lower = jnp.linalg.cholesky(jnp.eye(size) + factor.T @ (fisher[:, None] * factor))
            root = jsl.solve_triangular(lower, jnp.eye(size), lower=True).T
            covariance = root @ root.T
            told = jnp.tile(1.0 - jnp.diagonal(covariance), 2)
            x = jnp.concatenate([seen, own.loc, own.log_diagonal])
            extra = told * (self.bias + self.linear @ x + Network.at(self.network, x))
            stretch = jnp.exp(extra[size:])
            return covariance @ (factor.T @ slope) + extra[:size], root * stretch, lower.T / stretch[:, None]

        return each, *jax.vmap(one)(each, slopes, information, self.seen(found))

    def by_row(self, point: Flat, found: dict[str, Array], prior: Any) -> Array:
        """Row by row."""
        each, means, _, inverses = self._each(found, prior)

        def one(own: FullRank, row: Array, mean: Array, inverse: Array) -> Array:
            half_log_det = own.half_log_det() - jnp.sum(jnp.log(jnp.diagonal(inverse)))
            return normal_log_prob(inverse @ (own.whiten(row) - mean), half_log_det)

        return jax.vmap(one)(each, self.layout.split(point), means, inverses)

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """Every row."""
        each, means, roots, _ = self._each(found, prior)
        noise = jr.normal(key, means.shape, means.dtype)
        v = means + jnp.einsum("nij,nj->ni", roots, noise)
        return self.layout.join(jax.vmap(lambda own, v: own.transform(v))(each, v)), jnp.zeros(())
