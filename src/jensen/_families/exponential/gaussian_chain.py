"""The joint normal factor of a first-order chain, by parallel filtering and smoothing in information form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.prefix import prefix_scan


class GaussianChain(AbstractExponentialFactor):
    """N(m, Σ) over z_1, ..., z_T with block tridiagonal Σ⁻¹; independent over the other axes of the value.

    t = (z_t, z_t z_tᵀ, z_t z_{t+1}ᵀ); η of the last is minus the block of Σ⁻¹ at (t, t + 1). All marginals and A come
    from two associative scans, so that time and memory are linear in T and the steps run side by side (Särkkä and
    García-Fernández 2021, in information form).

    Attributes:
        natural: `z`, the value's shape; `zz`, (independent axes, time, state axes twice) and `cross`, the same with
            T - 1 steps, its last axes those of the later state.
        axes: the time axis of the value, and its state axes (none for scalar states).
    """

    natural: Natural
    axes: tuple[int, ...] = eqx.field(static=True)

    @property
    def _order(self) -> list[int]:
        time, *state = self.axes
        rest = [i for i in range(self.natural["z"].ndim) if i not in self.axes]
        return [time, *rest, *state]

    @property
    def _lead(self) -> int:
        """Number of axes before those of the state: time and the independent ones."""
        return self.natural["z"].ndim - len(self.axes) + 1

    def _flat(self, value: Array) -> Array:
        """The value as (time, independent axes, E)."""
        moved = jnp.transpose(value, self._order)
        return moved.reshape((*moved.shape[: self._lead], -1))

    def _restored(self, flat: Array) -> Array:
        """`_flat` undone."""
        shape = [self.natural["z"].shape[i] for i in self._order]
        return jnp.transpose(flat.reshape(shape), list(np.argsort(self._order)))

    def _matrices(self, name: str) -> Array:
        """An array of matrices as (time, independent axes, E, E)."""
        array = self.natural[name]
        dim = self._flat(self.natural["z"]).shape[-1]
        return jnp.moveaxis(array.reshape((*array.shape[: self._lead], dim, dim)), self._lead - 1, 0)

    def _stored(self, loc: Array, second: Array, cross: Array) -> Natural:
        shapes = {name: array.shape for name, array in self.natural.items()}
        last = self._lead - 1
        return {
            "z": self._restored(loc),
            "zz": jnp.moveaxis(second, 0, last).reshape(shapes["zz"]),
            "cross": jnp.moveaxis(cross, 0, last).reshape(shapes["cross"]),
        }

    def _filtered(self) -> tuple[Array, Array, Array]:
        """(precisions F, linear terms f, links L): z_t given those before is N(F⁻¹ f, F⁻¹); L = -η of cross."""
        half, cross = self._matrices("zz"), -self._matrices("cross")
        links = jnp.concatenate([jnp.zeros_like(half[:1]), cross])
        blank = jnp.zeros_like(half)
        linear = self._flat(self.natural["z"])
        steps = (blank, links, -(half + _transposed(half)), jnp.zeros_like(linear), linear)
        _, _, precision, _, linear = prefix_scan(_eliminated, steps)
        return precision, linear, cross

    def _backward(self) -> tuple[Array, Array, Array]:
        """(gains G, conditional covariances, offsets): z_t = G z_{t+1} + offset + noise; G is zero at the end."""
        precision, linear, cross = self._filtered()
        covariance = _inverse(precision)
        gains = jnp.concatenate([-covariance[:-1] @ cross, jnp.zeros_like(covariance[:1])])
        return gains, 0.5 * (covariance + _transposed(covariance)), _applied(covariance, linear)

    def _smoothed(self) -> tuple[Array, Array, Array]:
        """(means, covariances, covariances of neighbours)."""
        gains, covariance, offset = self._backward()
        _, loc, covariance = prefix_scan(_composed, (gains, offset, covariance), reverse=True)
        return loc, covariance, gains[:-1] @ covariance[1:]

    def log_normalizer(self) -> Array:
        """A(η), one entry for each independent chain."""
        precision, linear, _ = self._filtered()
        factor = jnp.linalg.cholesky(precision)
        solved = _solved(precision, linear[..., None])[..., 0]
        half_log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-1, axis2=-2)), -1)
        size = linear.shape[-1] * jnp.log(2.0 * jnp.pi)
        return jnp.sum(0.5 * jnp.sum(linear * solved, -1) - half_log_det + 0.5 * size, 0)

    def mean_params(self) -> Natural:
        """(m_t, Σ_tt + m_t m_tᵀ, Σ_t,t+1 + m_t m_{t+1}ᵀ)."""
        loc, covariance, cross = self._smoothed()
        second = covariance + loc[..., :, None] * loc[..., None, :]
        cross = cross + loc[:-1, ..., :, None] * loc[1:, ..., None, :]
        return self._stored(loc, second, cross)

    def statistics(self, *values: Array) -> Natural:
        """(z_t, z_t z_tᵀ, z_t z_{t+1}ᵀ)."""
        flat = self._flat(values[0])
        second = flat[..., :, None] * flat[..., None, :]
        cross = flat[:-1, ..., :, None] * flat[1:, ..., None, :]
        return self._stored(flat, second, cross)

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """Backward sampling: z_T, then each state given the next one."""
        gains, covariance, offset = self._backward()
        noise = jax.random.normal(key, offset.shape)
        offset = offset + _applied(jnp.linalg.cholesky(covariance), noise)
        _, values, _ = prefix_scan(_composed, (gains, offset, jnp.zeros_like(gains)), reverse=True)
        return (self._restored(values),)

    def contains(self) -> Array:
        """Σ⁻¹ is positive definite."""
        return jnp.all(jnp.isfinite(jnp.linalg.cholesky(self._filtered()[0])), (0, -1, -2))

    def means(self) -> tuple[Array, ...]:
        """m."""
        return (self._restored(self._smoothed()[0]),)

    def variances(self) -> tuple[Array, ...]:
        """The diagonal of Σ."""
        return (self._restored(jnp.diagonal(self._smoothed()[1], axis1=-1, axis2=-2)),)


def _transposed(matrix: Array) -> Array:
    return jnp.swapaxes(matrix, -1, -2)


def _solved(matrix: Array, columns: Array) -> Array:
    """M⁻¹ C for positive definite M."""
    if matrix.shape[-1] == 1:
        return columns / matrix
    factor = jnp.linalg.cholesky(matrix)
    half = jax.scipy.linalg.solve_triangular(factor, columns, lower=True)
    return jax.scipy.linalg.solve_triangular(factor, half, lower=True, trans=1)


def _inverse(matrix: Array) -> Array:
    """M⁻¹ for positive definite M."""
    return _solved(matrix, jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape))


def _applied(matrix: Array, vector: Array) -> Array:
    return jnp.einsum("...ij,...j->...i", matrix, vector)


def _eliminated(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    """Quadratic potentials over (i, j) and (j, k) as one over (i, k): z_j is integrated out.

    (P_ii, P_ij, P_jj, h_i, h_j) stands for exp(-½ zᵀPz + hᵀz). The inner matrix is a conditional precision of the
    whole chain, so it is positive definite wherever the chain's is.
    """
    a_ll, a_lr, a_rr, a_l, a_r = left
    b_ll, b_lr, b_rr, b_l, b_r = right
    inner = a_rr + b_ll
    columns = jnp.concatenate([_transposed(a_lr), b_lr, (a_r + b_l)[..., None]], -1)
    solved = _solved(inner, columns)
    dim = inner.shape[-1]
    to_left, to_right, mean = solved[..., :dim], solved[..., dim : 2 * dim], solved[..., 2 * dim]
    return (
        a_ll - a_lr @ to_left,
        -a_lr @ to_right,
        b_rr - _transposed(b_lr) @ to_right,
        a_l - _applied(a_lr, mean),
        b_r - _applied(_transposed(b_lr), mean),
    )


def _composed(later: tuple[Array, ...], earlier: tuple[Array, ...]) -> tuple[Array, ...]:
    """Two backward steps z ← G z' + offset + noise as one."""
    gain, offset, covariance = earlier
    return (
        gain @ later[0],
        _applied(gain, later[1]) + offset,
        gain @ later[2] @ _transposed(gain) + covariance,
    )
