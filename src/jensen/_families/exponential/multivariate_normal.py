"""The multivariate normal factor over chosen axes of a site."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.linalg import times
from jensen._math.readout import readout


class MultivariateNormal(AbstractExponentialFactor):
    """N(m, Σ) jointly over `event_axes` of the value and independent over its other axes.

    t = (z, z zᵀ), η = (Σ⁻¹ m, -½ Σ⁻¹), A = ½ mᵀ Σ⁻¹ m + ½ log det(2π Σ). The array of `z` has the value's own shape,
    that of `zz` is (independent axes, event axes, event axes); it need not be symmetric.
    """

    natural: Natural
    event_axes: tuple[int, ...] = eqx.field(static=True)

    @property
    def _order(self) -> list[int]:
        rank = self.natural["z"].ndim
        return [i for i in range(rank) if i not in self.event_axes] + list(self.event_axes)

    def _flat(self, value: Array) -> Array:
        """The value as (independent axes, E)."""
        batch = value.ndim - len(self.event_axes)
        moved = jnp.transpose(value, self._order)
        return moved.reshape((*moved.shape[:batch], -1))

    def _restored(self, flat: Array) -> Array:
        """`_flat` undone."""
        shape = [self.natural["z"].shape[i] for i in self._order]
        return jnp.transpose(flat.reshape(shape), list(np.argsort(self._order)))

    @property
    def precision(self) -> Array:
        """Σ⁻¹, shape (independent axes, E, E)."""
        dim = int(np.prod([self.natural["z"].shape[i] for i in self.event_axes]))
        half = self.natural["zz"].reshape((*self._flat(self.natural["z"]).shape[:-1], dim, dim))
        return -(half + jnp.swapaxes(half, -1, -2))

    def _solved(self) -> tuple[Array, Array]:
        """(Σ, Σ⁻¹'s Cholesky factor)."""
        factor = jnp.linalg.cholesky(self.precision)
        eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
        root = jax.scipy.linalg.solve_triangular(factor, eye, lower=True)
        return jnp.swapaxes(root, -1, -2) @ root, factor

    @property
    @readout
    def covariance(self) -> Array:
        """Σ, shape (independent axes, E, E)."""
        return self._solved()[0]

    @property
    @readout
    def loc(self) -> Array:
        """M, of the value's shape."""
        return self._restored(jnp.einsum("...ij,...j->...i", self.covariance, self._flat(self.natural["z"])))

    def solved(self) -> tuple[Natural, Array]:
        """((m, Σ + m mᵀ), A(η))."""
        covariance, factor = self._solved()
        linear = self._flat(self.natural["z"])
        loc = jnp.einsum("...ij,...j->...i", covariance, linear)
        second = covariance + loc[..., :, None] * loc[..., None, :]
        half_log_det = -jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-1, axis2=-2)), -1)
        size = 0.5 * jnp.sum(linear * loc, -1) + half_log_det + 0.5 * linear.shape[-1] * np.log(2.0 * np.pi)
        return {"z": self._restored(loc), "zz": second.reshape(self.natural["zz"].shape)}, size

    def log_normalizer(self) -> Array:
        """A(η)."""
        return self.solved()[1]

    def mean_params(self) -> Natural:
        """(m, Σ + m mᵀ)."""
        return self.solved()[0]

    def statistics(self, *values: Array) -> Natural:
        """(z, z zᵀ)."""
        flat = self._flat(values[0])
        outer = flat[..., :, None] * flat[..., None, :]
        return {"z": values[0], "zz": outer.reshape(self.natural["zz"].shape)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """M + L⁻ᵀ ε with Σ⁻¹ = L Lᵀ."""
        factor = self._solved()[1]
        noise = jax.random.normal(key, factor.shape[:-1])
        step = jax.scipy.linalg.solve_triangular(factor, noise[..., None], trans=1, lower=True)[..., 0]
        return (self.loc + self._restored(step),)

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`."""
        linear, order = np.asarray(self.natural["z"]), self._order
        moved = linear.transpose(order)
        batch = moved.shape[: moved.ndim - len(self.event_axes)]
        rows = moved.reshape((*batch, -1)).astype(float)
        half = np.asarray(self.natural["zz"], float).reshape((*rows.shape, rows.shape[-1]))
        try:
            root = np.linalg.inv(np.linalg.cholesky(-(half + half.swapaxes(-1, -2))))
        except np.linalg.LinAlgError:
            return None
        loc = np.einsum("...ji,...j->...i", root, np.einsum("...ij,...j->...i", root, rows))
        noise = rng.standard_normal((count, *rows.shape))
        step = np.einsum("c...j,...ji->c...i", noise, root) if batch else times(noise, root)
        value = (loc + step).reshape((count, *moved.shape)).transpose([0, *(1 + np.argsort(order))])
        return (value.astype(linear.dtype),)

    def contains(self) -> Array:
        """Σ⁻¹ is positive definite."""
        return jnp.all(jnp.isfinite(jnp.linalg.cholesky(self.precision)), (-1, -2))

    def mode(self) -> tuple[Array, ...]:
        """m."""
        return (self.loc,)

    def means(self) -> tuple[Array, ...]:
        """m."""
        return (self.loc,)

    def variances(self) -> tuple[Array, ...]:
        """The diagonal of Σ."""
        return (self._restored(jnp.diagonal(self.covariance, axis1=-1, axis2=-2)),)
