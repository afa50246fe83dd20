"""A normal factor on the unconstrained space of sites that have no conjugate factor."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to

from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.noise import symmetric_draws

DRAWS = 1024
"""Fixed symmetric draws behind moments that have no closed form."""


class UnconstrainedNormal(AbstractExponentialFactor):
    """z = T(u), u ~ N(m, Σ) jointly over all unconstrained coordinates of several sites.

    t and A are those of u: t = (u, u uᵀ), η = (Σ⁻¹ m, -½ Σ⁻¹). `log_prob` and `entropy` are those of z.
    Means, variances and the entropy's E[log |det ∂z/∂u|] are averages over fixed symmetric draws, exact on the real
    line.

    Attributes:
        natural: `u`, (D,); `uu`, (D, D). shapes: unconstrained shapes of the sites; supports: their constraints.
    """

    natural: Natural
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    supports: tuple[Any, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, mean: Array, factor: Array, shapes: Any, supports: Any) -> "UnconstrainedNormal":
        """N(m, F Fᵀ) over u."""
        inverse = jnp.linalg.inv(jnp.asarray(factor))
        precision = inverse.T @ inverse
        return cls({"u": precision @ jnp.asarray(mean), "uu": -0.5 * precision}, tuple(shapes), tuple(supports))

    @property
    def covariance(self) -> Array:
        """Σ, (D, D)."""
        return jnp.linalg.inv(-(self.natural["uu"] + self.natural["uu"].T))

    @property
    def loc(self) -> Array:
        """The mean m of u, (D,)."""
        return self.covariance @ self.natural["u"]

    def _values(self, flat: Array) -> tuple[tuple[Array, ...], Scalar]:
        """(the sites' values at u, log |det ∂z/∂u|)."""
        values, log_det, start = [], jnp.zeros(()), 0
        for shape, support in zip(self.shapes, self.supports, strict=True):
            size = int(np.prod(shape, dtype=int))
            u, transform = flat[start : start + size].reshape(shape), biject_to(support)
            values.append(transform(u))
            log_det = log_det + jnp.sum(transform.log_abs_det_jacobian(u, values[-1]))
            start += size
        return tuple(values), log_det

    def _flat(self, values: tuple[Array, ...]) -> Array:
        parts = [jnp.ravel(biject_to(s).inv(jnp.asarray(v))) for v, s in zip(values, self.supports, strict=True)]
        return jnp.concatenate(parts)

    def _draws(self) -> Array:
        noise = symmetric_draws(max(DRAWS, 4 * self.natural["u"].shape[0]), self.natural["u"].shape[0], 0)
        return self.loc + jnp.asarray(noise) @ jnp.linalg.cholesky(self.covariance).T

    def log_normalizer(self) -> Array:
        """A(η) of u, a scalar."""
        linear, dim = self.natural["u"], self.natural["u"].shape[0]
        log_det = jnp.linalg.slogdet(self.covariance)[1]
        return 0.5 * linear @ self.loc + 0.5 * log_det + 0.5 * dim * jnp.log(2.0 * jnp.pi)

    def mean_params(self) -> Natural:
        """(m, Σ + m mᵀ)."""
        loc = self.loc
        return {"u": loc, "uu": self.covariance + jnp.outer(loc, loc)}

    def statistics(self, *values: Array) -> Natural:
        """(u, u uᵀ)."""
        u = self._flat(values)
        return {"u": u, "uu": jnp.outer(u, u)}

    def log_prob(self, *values: Array) -> Scalar:
        """log q(z) in nats, on the supports."""
        return super().log_prob(*values) - self._values(self._flat(values))[1]

    def entropy(self) -> Scalar:
        """H[u] + E[log |det ∂z/∂u|], in nats."""
        return super().entropy() + jnp.mean(jax.vmap(lambda u: self._values(u)[1])(self._draws()))

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """One draw of every site."""
        noise = jax.random.normal(key, self.natural["u"].shape)
        return self._values(self.loc + jnp.linalg.cholesky(self.covariance) @ noise)[0]

    def contains(self) -> Array:
        """Σ⁻¹ is positive definite."""
        precision = -(self.natural["uu"] + self.natural["uu"].T)
        return jnp.all(jnp.isfinite(jnp.linalg.cholesky(precision)))

    def means(self) -> tuple[Array, ...]:
        """E[z] of every site."""
        return tuple(jnp.mean(v, 0) for v in jax.vmap(lambda u: self._values(u)[0])(self._draws()))

    def variances(self) -> tuple[Array, ...]:
        """Var[z] elementwise of every site."""
        return tuple(jnp.var(v, 0) for v in jax.vmap(lambda u: self._values(u)[0])(self._draws()))
