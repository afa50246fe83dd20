"""A factor concentrated at one point: what a learned parameter has in place of a posterior."""

import jax
import jax.numpy as jnp

from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural, inner


class AtMode(AbstractExponentialFactor):
    """The point z* = argmax_z ⟨η, t(z)⟩, the mode of an exponential family in place of the family itself.

    If η is the gradient of an expected log joint in E[t(z)], z* is its maximiser: the M step of EM in closed form,
    found by the algebra that finds the optimal factor. With E[t] = t(z*) and A = ⟨η, t(z*)⟩ the entropy is zero, and
    the gain of an update from z is ⟨η, t(z*) - t(z)⟩ ≥ 0: the accounts of coordinate ascent hold as they stand. By the
    envelope theorem ∇A is t(z*), as for any family.

    Attributes:
        of: the factor whose mode is taken.
    """

    of: AbstractExponentialFactor

    def __init__(self, of: AbstractExponentialFactor):
        self.of = of

    @property
    def natural(self) -> Natural:  # type: ignore[override]
        """η."""
        return self.of.natural

    def mode_value(self) -> Array:
        """z*, of a factor over one site."""
        (value,) = self.of.mode()
        return value

    def log_normalizer(self) -> Array:
        """⟨η, t(z*)⟩, over all entries together."""
        return inner(self.natural, self.mean_params())

    def mean_params(self) -> Natural:
        """t(z*)."""
        return self.of.mode_params()

    def solved(self) -> tuple[Natural, Array]:
        """(t(z*), ⟨η, t(z*)⟩)."""
        mean = self.mean_params()
        return mean, inner(self.natural, mean)

    def entropy(self) -> Scalar:
        """Zero: a point has no spread."""
        return jnp.zeros(())

    def statistics(self, *values: Array) -> Natural:
        """t(z)."""
        return self.of.statistics(*values)

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """z*, whatever the key."""
        del key
        return self.of.mode()

    def contains(self) -> Array:
        """Whether ⟨η, t(z)⟩ has a maximum, one entry for each independent draw."""
        return self.of.has_mode()

    def means(self) -> tuple[Array, ...]:
        """z*."""
        return self.of.mode()

    def variances(self) -> tuple[Array, ...]:
        """Zero."""
        return tuple(jax.tree.map(jnp.zeros_like, self.of.mode()))
