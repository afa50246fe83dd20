"""What an encoder's numbers mean: the rows' factors themselves, or potentials that are joined to the rows' prior."""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jensen._amortised.family.row_factors import RowFactors, joint_states
from jensen._amortised.model import RowModel
from jensen._base.typing import Array

if TYPE_CHECKING:
    from jensen._amortised.family.family import Amortised


class AbstractForm(abc.ABC):
    """From the encoder's numbers for some rows to those of their factors.

    `natural`: whether q(β) moves by natural gradients, once the first step size has brought the encoder near.
    """

    natural: ClassVar[bool] = False

    @abc.abstractmethod
    def numbers(self, q: "Amortised", model: RowModel, raw: Array, parameters: Mapping[str, Any]) -> Array:
        """The numbers of the factors, (rows, size); `model` holds the rows' data, `raw` is what the encoder says."""


class Direct(AbstractForm):
    """The encoder gives the factors."""

    def numbers(self, q: "Amortised", model: RowModel, raw: Array, parameters: Mapping[str, Any]) -> Array:
        """As they are."""
        del q, model, parameters
        return raw


class Structured(AbstractForm):
    """q(z_n) ∝ exp(E_q[log p(z_n | β, c_n)]) N(m_n; z_n, (R_n R_nᵀ)⁻¹), a pseudo-observation (m_n, R_n) by the encoder.

    The prior's natural parameters (η, Λ) are added to those of the potential, (R Rᵀ m, R Rᵀ): q keeps what the model
    says of the latents, and the encoder has the likelihood to learn only. This is the local step of Johnson, Duvenaud,
    Wiltschko, Datta and Adams (2016), section 4. The expectation is over the row's codes, by enumeration, and over β at
    fixed draws, which makes q(z_n) a deterministic function of q(β): the bound stays one.

    Attributes:
        noise: (draws, noise_dim) standard normal, for β.
    """

    natural: ClassVar[bool] = True

    def __init__(self, noise: np.ndarray):
        self.noise = noise

    def numbers(self, q: "Amortised", model: RowModel, raw: Array, parameters: Mapping[str, Any]) -> Array:
        """Means, then log diagonal and strict lower part of the Cholesky factor L of the covariance, then codes."""
        linear, precision = self._expected(q, model, raw, dict(parameters))
        potential = RowFactors.of(model.layout, q.shape, raw)
        root = potential.factor()
        seen = root @ jnp.swapaxes(root, -1, -2)
        linear = linear + jnp.einsum("nij,nj->ni", seen, potential.loc)
        # With P = U Uᵀ, U upper triangular, L = U⁻ᵀ is lower triangular and L Lᵀ = P⁻¹.
        flipped = jnp.linalg.cholesky((precision + seen)[:, ::-1, ::-1])[:, ::-1, ::-1]
        eye = jnp.broadcast_to(jnp.eye(q.shape.dim, dtype=raw.dtype), precision.shape)
        factor = jax.scipy.linalg.solve_triangular(flipped, eye, lower=False, trans=1)
        loc = jnp.einsum("nij,nkj,nk->ni", factor, factor, linear)
        diagonal = jnp.log(jnp.diagonal(factor, axis1=1, axis2=2))
        below = factor[(slice(None), *np.tril_indices(q.shape.dim, -1))]
        return jnp.concatenate([loc, diagonal, below, raw[:, q.shape.dim + q.shape.spread :]], axis=1)

    def _expected(self, q: "Amortised", model: RowModel, raw: Array, parameters: dict[str, Any]) -> tuple[Array, Array]:
        """The prior's (η, Λ), averaged over codes and β."""
        shared = jax.vmap(q.shared.transform)(jnp.asarray(self.noise, raw.dtype))
        states: Any = joint_states(model.layout) if model.layout.codes else None
        if states is None:
            found = jax.vmap(lambda u: model.prior_potential({}, u, parameters))(shared)
            return jax.tree.map(lambda x: jnp.mean(x, axis=0), found)
        masses = jnp.exp(jax.vmap(RowFactors.of(model.layout, q.shape, raw).codes_log_prob)(states))

        def at(u: Array) -> tuple[Array, Array]:
            linear, precision = jax.vmap(lambda c: model.prior_potential(c, u, parameters))(states)
            return jnp.einsum("kn,knd->nd", masses, linear), jnp.einsum("kn,knde->nde", masses, precision)

        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.vmap(at)(shared))
