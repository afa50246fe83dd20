"""The von Mises factor on the circle."""

from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from numpyro.distributions.util import von_mises_centered

from jensen._base.typing import Array, PRNGKey
from jensen._families.native.contract import ROOT3, AbstractFactor

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


class VonMises(AbstractFactor):
    """exp(κ cos(z - m)) / (2π I₀(κ)) on [-π, π), in the chart (m, log κ).

    Draws are implicitly reparameterised: ∂z/∂m = 1 and ∂z/∂κ = -∂_κF(z; κ) / q(z), the integral by Gauss-Legendre.
    """

    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    exact_moments: ClassVar[bool] = False
    circular: ClassVar[bool] = True
    event_dim: ClassVar[int] = 0
    loc: Array
    log_concentration: Array

    @property
    def rows(self) -> tuple[int, ...]:
        """Those of the site."""
        return jnp.shape(self.loc)

    def sample(self, key: PRNGKey) -> Array:
        """An angle, wrapped."""
        centred = _centred(key, jnp.exp(self.log_concentration))
        turned = self.loc + centred
        return turned - jax.lax.stop_gradient(2.0 * jnp.pi * jnp.floor((turned + jnp.pi) / (2.0 * jnp.pi)))

    def log_prob(self, value: Array) -> Array:
        """κ (cos(z - m) - 1) - log 2π I₀ₑ(κ)."""
        concentration = jnp.exp(self.log_concentration)
        return concentration * (jnp.cos(value - self.loc) - 1.0) - jnp.log(2.0 * jnp.pi * i0e(concentration))

    def mean(self) -> Array:
        """The direction m, wrapped."""
        return self.loc - 2.0 * jnp.pi * jnp.floor((self.loc + jnp.pi) / (2.0 * jnp.pi))

    def variance(self) -> Array:
        """1 - A(κ), A = I₁ / I₀: the circular variance."""
        concentration = jnp.exp(self.log_concentration)
        return 1.0 - i1e(concentration) / i0e(concentration)

    def information(self) -> Self:
        """(κ A, κ² (1 - A / κ - A²))."""
        concentration = jnp.exp(self.log_concentration)
        ratio = i1e(concentration) / i0e(concentration)
        second = concentration**2 * (1.0 - ratio / concentration - ratio**2)
        return type(self)(concentration * ratio, jnp.maximum(second, 0.02))

    def entropy(self) -> Array:
        """log 2π I₀ₑ(κ) + κ - κ A."""
        concentration = jnp.exp(self.log_concentration)
        ratio = i1e(concentration) / i0e(concentration)
        return jnp.log(2.0 * jnp.pi * i0e(concentration)) + concentration * (1.0 - ratio)

    @property
    def interpolated(self) -> int:
        """Statistics."""
        return 2

    def nodes(self) -> Array:
        """m, and √3 circular sds (a third of the circle at most) on both sides."""
        spread = jnp.minimum(jnp.exp(-0.5 * self.log_concentration), 1.2)
        turned = self.loc + ROOT3 * spread * jnp.array([-1.0, 0.0, 1.0]).reshape(3, *[1] * spread.ndim)
        return turned - 2.0 * jnp.pi * jnp.floor((turned + jnp.pi) / (2.0 * jnp.pi))

    def statistics(self, value: Array) -> Array:
        """κ (cos(z - m) - A) and √κ sin(z - m), with κ of 1 at least."""
        scale = jnp.maximum(jnp.exp(self.log_concentration), 1.0)
        along = scale * (jnp.cos(value - self.loc) - (1.0 - self.variance()))
        return jnp.stack([along, jnp.sqrt(scale) * jnp.sin(value - self.loc)], axis=-1)

    def tempered(self, power: float) -> Self:
        """The concentration times power."""
        return type(self)(self.loc, self.log_concentration + np.log(power))


@jax.custom_jvp
def _centred(key: PRNGKey, concentration: Array) -> Array:
    return von_mises_centered(key, concentration, jnp.shape(concentration), concentration.dtype)


@_centred.defjvp
def _centred_jvp(primals, tangents):
    key, concentration = primals
    value = _centred(key, concentration)
    # F and q are symmetric about 0, so integrate the lower tail up to -|z|; beyond 12 sd there is no mass.
    end = -jnp.abs(value)
    start = jnp.maximum(-jnp.pi, -12.0 / jnp.sqrt(concentration))
    start = jnp.minimum(start, end)
    half = 0.5 * (end - start)
    angle = start[..., None] + half[..., None] * (jnp.asarray(_NODES, value.dtype) + 1.0)
    kappa = concentration[..., None]
    ratio = i1e(kappa) / i0e(kappa)
    # q(t) / q(z) (cos t - A), the derivative of F in κ over the density at z
    weight = jnp.exp(kappa * (jnp.cos(angle) - jnp.cos(value)[..., None])) * (jnp.cos(angle) - ratio)
    slope = half * jnp.sum(jnp.asarray(_WEIGHTS, value.dtype) * weight, axis=-1)
    return value, jnp.where(value <= 0, -slope, slope) * tangents[1]
