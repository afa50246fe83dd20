"""The normal factor."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural


class Normal(AbstractExponentialFactor):
    """N(m, s²) elementwise: t = (z, z²), η = (m / s², -1 / 2s²), A = m² / 2s² + ½ log(2π s²)."""

    natural: Natural

    @property
    def loc(self) -> Array:
        """m = η₁ s²."""
        return self.natural["z"] * self.variance

    @property
    def variance(self) -> Array:
        """s² = -1 / 2η₂."""
        return -0.5 / self.natural["zz"]

    def log_normalizer(self) -> Array:
        """A(η)."""
        return 0.5 * self.natural["z"] * self.loc + 0.5 * jnp.log(2.0 * jnp.pi * self.variance)

    def mean_params(self) -> Natural:
        """(m, m² + s²)."""
        return {"z": self.loc, "zz": self.loc**2 + self.variance}

    def statistics(self, *values: Array) -> Natural:
        """(z, z²)."""
        (z,) = values
        return {"z": z, "zz": z**2}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """m + s ε."""
        return (self.loc + jnp.sqrt(self.variance) * jax.random.normal(key, self.loc.shape),)

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`."""
        linear, square = (np.asarray(self.natural[name]) for name in ("z", "zz"))
        variance = -0.5 / square
        value = linear * variance + np.sqrt(variance) * rng.standard_normal((count, *linear.shape))
        return (value.astype(linear.dtype),)

    def contains(self) -> Array:
        """η₂ < 0."""
        return (self.natural["zz"] < 0) & jnp.isfinite(self.natural["z"])

    def mode(self) -> tuple[Array, ...]:
        """m."""
        return (self.loc,)

    def means(self) -> tuple[Array, ...]:
        """m."""
        return (self.loc,)

    def variances(self) -> tuple[Array, ...]:
        """s²."""
        return (self.variance,)
