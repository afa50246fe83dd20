"""What every Gaussian family on R^D shares."""

import abc
from typing import Any, Self, overload

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array, Flat, Scalar
from jensen.core import AbstractReparameterised, Draw
from jensen.math import linalg


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


@overload
def normal_log_prob(whitened: Array, half_log_det: Scalar) -> Scalar: ...
@overload
def normal_log_prob(whitened: np.ndarray, half_log_det: float) -> np.ndarray: ...
def normal_log_prob(whitened: Any, half_log_det: Any) -> Any:
    """log N(u; m, SSᵀ) from S⁻¹(u - m), in JAX or in NumPy."""
    dim = whitened.shape[-1]
    return -0.5 * (whitened**2).sum(-1) - 0.5 * dim * np.log(2.0 * np.pi) - half_log_det
