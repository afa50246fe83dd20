"""The joint normal factor of several sites."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._families.exponential.multivariate_normal import MultivariateNormal


class JointNormal(AbstractExponentialFactor):
    """N(m, Σ) over all entries of several sites together.

    t = (z_i, z_i ⊗ z_j): the natural and mean parameters are keyed `z{i}` (the site's shape) and `z{i}z{j}`, i ≤ j
    (both shapes). Σ is dense over Σ_i size_i dimensions.
    """

    natural: Natural
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def _sizes(self) -> list[int]:
        return [int(np.prod(shape, dtype=int)) for shape in self.shapes]

    def whole(self) -> MultivariateNormal:
        """The same factor over the flattened, concatenated sites."""
        sizes = self._sizes
        linear = jnp.concatenate([self.natural[f"z{i}"].reshape(-1) for i in range(len(sizes))])
        rows = []
        for i, a in enumerate(sizes):
            row = [
                self.natural[f"z{i}z{j}"].reshape(a, b) if j >= i else jnp.zeros((a, b)) for j, b in enumerate(sizes)
            ]
            rows.append(jnp.concatenate(row, 1))
        # The upper blocks hold the whole coefficient of z_i z_jᵀ; MultivariateNormal makes them symmetric.
        return MultivariateNormal({"z": linear, "zz": jnp.concatenate(rows, 0)}, (0,))

    def _split(self, flat: Array) -> list[Array]:
        ends = list(np.cumsum(self._sizes))[:-1]
        return [p.reshape(s) for p, s in zip(jnp.split(flat, ends), self.shapes, strict=True)]

    def _parts(self, linear: Array, second: Array) -> Natural:
        starts = np.concatenate([[0], np.cumsum(self._sizes)])
        parts = {f"z{i}": part for i, part in enumerate(self._split(linear))}
        for i, a in enumerate(self.shapes):
            for j, b in enumerate(self.shapes[i:], start=i):
                block = second[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
                parts[f"z{i}z{j}"] = block.reshape((*a, *b))
        return parts

    def log_normalizer(self) -> Array:
        """A(η), a scalar."""
        return self.whole().log_normalizer()

    def mean_params(self) -> Natural:
        """(m_i, Σ_ij + m_i m_jᵀ)."""
        moments = self.whole().mean_params()
        return self._parts(moments["z"], moments["zz"])

    def statistics(self, *values: Array) -> Natural:
        """(z_i, z_i z_jᵀ)."""
        flat = jnp.concatenate([jnp.reshape(v, -1) for v in values])
        return self._parts(flat, flat[:, None] * flat)

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """One draw of every site."""
        return tuple(self._split(self.whole().draw(key)[0]))

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`."""
        parts = {name: np.asarray(value) for name, value in self.natural.items()}
        sizes, ends = self._sizes, np.cumsum(self._sizes)
        linear = np.concatenate([parts[f"z{i}"].reshape(-1) for i in range(len(sizes))])
        second = np.zeros((len(linear), len(linear)), linear.dtype)
        for i, a in enumerate(sizes):
            for j, b in enumerate(sizes[i:], start=i):
                second[ends[i] - a : ends[i], ends[j] - b : ends[j]] = parts[f"z{i}z{j}"].reshape(a, b)
        natural: Any = {"z": linear, "zz": second}
        found = MultivariateNormal(natural, (0,)).host_draws(rng, count)
        if found is None:
            return None
        columns = np.split(found[0], ends[:-1], axis=1)
        return tuple(part.reshape((count, *shape)) for part, shape in zip(columns, self.shapes, strict=True))

    def contains(self) -> Array:
        """Σ⁻¹ is positive definite."""
        return self.whole().contains()

    def means(self) -> tuple[Array, ...]:
        """m by site."""
        return tuple(self._split(self.whole().loc))

    def variances(self) -> tuple[Array, ...]:
        """The diagonal of Σ by site."""
        return tuple(self._split(jnp.diagonal(self.whole().covariance)))

    @property
    def covariance(self) -> Array:
        """Σ over the flattened, concatenated sites."""
        return self.whole().covariance
