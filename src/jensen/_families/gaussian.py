"""What every Gaussian family on R^D shares."""

import abc
from typing import Any, Self, overload

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Flat, Scalar
from jensen._core import AbstractReparameterised, Draw
from jensen._math import linalg


class AbstractGaussian(AbstractReparameterised):
    """N(loc, Σ) on R^D with a reparameterisation u = loc + S ε and a closed-form entropy."""

    loc: eqx.AbstractVar[Flat]

    @property
    def dim(self) -> int:
        """D."""
        return self.loc.shape[-1]

    @abc.abstractmethod
    def transform(self, noise: Array) -> Flat:
        """u = loc + S ε."""

    @abc.abstractmethod
    def half_log_det(self) -> Scalar:
        """½ log det Σ."""

    def entropy(self) -> Scalar:
        """H[q] = ½ D log(2πe) + ½ log det Σ, in nats."""
        return 0.5 * self.dim * (1.0 + jnp.log(2.0 * jnp.pi)) + self.half_log_det()

    def exact_entropy(self) -> Scalar:
        """The whole of log q has the closed-form mean -H[q]."""
        return self.entropy()

    def push(self, noise: Array, *, scored_by: Self | None = None) -> Draw:
        """u = loc + S ε with log q(u)."""
        value = self.transform(noise)
        log_prob = (self if scored_by is None else scored_by).log_prob(value)
        return Draw(value, log_prob, jnp.zeros_like(log_prob), log_prob)

    @abc.abstractmethod
    def affine(self, shift: np.ndarray, scale: np.ndarray, dtype: type = np.float64) -> "AbstractGaussian":
        """The Gaussian of shift + scale ∘ u, on the host."""

    @abc.abstractmethod
    def covariance(self) -> np.ndarray:
        """Σ (D, D) on the host, float64."""

    def factor(self) -> np.ndarray:
        """A lower triangular L with LLᵀ = Σ, (D, D) on the host."""
        return linalg.cholesky(self.covariance())

    @abc.abstractmethod
    def scales(self) -> np.ndarray:
        """Standard deviations of the unconstrained coordinates (D,) on the host."""

    @abc.abstractmethod
    def host_transform(self, noise: np.ndarray) -> np.ndarray:
        """`transform` for rows of noise, in NumPy."""

    @abc.abstractmethod
    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q for rows of points, in NumPy, in nats."""


class AbstractNatural(AbstractGaussian):
    """A Gaussian N(m, SSᵀ) that moves by natural gradients of a bound L, in its own whitened coordinates.

    With G = 2 Sᵀ ∇_Σ L S, which is I + E[Sᵀ ∇² log p S] for the ELBO, and ∇_m L, the step in natural parameters is

        Σ⁻¹ ← S⁻ᵀ (I - ρ G) S⁻¹,     m ← m + ρ Σ ∇_m L  (the new Σ)

    (Khan and Lin 2017; Khan et al. 2018, equations 6 and 7). At ρ = 1 it solves ∇L = 0 where log p is quadratic.
    """

    @abc.abstractmethod
    def whitened(self, slope: Self) -> tuple[Array, Array]:
        """(Sᵀ ∇_m L, G) from the gradient in the family's own parameters, a tree like the family."""

    @abc.abstractmethod
    def unwhitened(self, slope: Array, excess: Array) -> Self:
        """The gradient in the family's own parameters from ∇_m L and G."""

    @abc.abstractmethod
    def excess(self, probes: Array, images: Array) -> Array:
        """G from its products with probes z, both (probes, dim); exact for Σ z zᵀ = I, unbiased for E[Σ z zᵀ] = I."""

    @abc.abstractmethod
    def stepped(self, pull: Array, excess: Array, rho: Scalar | float) -> Self:
        """The Gaussian after a step with Sᵀ ∇_m L and G; ρ is halved until `paced` lets it pass."""


SMALLEST, LARGEST = 0.1, 10.0
"""Factors between which a natural-gradient step may change the precision in any direction."""


def paced(rho: Scalar | float, eigenvalues: Array) -> Scalar:
    """ρ halved until the eigenvalues of I - ρ G lie between `SMALLEST` and `LARGEST`, given those of G."""
    most = jnp.max(eigenvalues, initial=0.0) / (1.0 - SMALLEST)
    least = jnp.max(-eigenvalues, initial=0.0) / (LARGEST - 1.0)
    return rho * 2.0 ** -jnp.ceil(jnp.log2(jnp.maximum(rho * jnp.maximum(most, least), 1.0)))


def shortened(move: Array) -> Array:
    """A whitened move, of a length of at most 3 + √D standard deviations."""
    limit = 3.0 + np.sqrt(move.shape[-1])
    return limit / jnp.maximum(jnp.sqrt(jnp.sum(move**2)), limit) * move


@overload
def normal_log_prob(whitened: Array, half_log_det: Scalar) -> Scalar: ...
@overload
def normal_log_prob(whitened: np.ndarray, half_log_det: float) -> np.ndarray: ...
def normal_log_prob(whitened: Any, half_log_det: Any) -> Any:
    """log N(u; m, SSᵀ) from S⁻¹(u - m), in JAX or in NumPy."""
    dim = whitened.shape[-1]
    return -0.5 * (whitened**2).sum(-1) - 0.5 * dim * np.log(2.0 * np.pi) - half_log_det
