"""Contract 1, the model: log p(x, z) site by site, and the map from R^D onto the latents' support."""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen._base.typing import Flat, Latent, Scalar, Terms


def total(terms: Any) -> Scalar:
    """Sum of every entry of a tree of log densities, in nats."""
    leaves = jax.tree.leaves(terms)
    return sum((jnp.sum(leaf) for leaf in leaves), start=jnp.zeros(()))


class AbstractBijection(eqx.Module):
    """A smooth one-to-one map T from R^D onto the support of all latents together."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """D."""

    @abc.abstractmethod
    def forward(self, point: Flat) -> tuple[Latent, Scalar]:
        """z = T(u) and log |det ∂T/∂u| in nats."""

    @abc.abstractmethod
    def inverse(self, latent: Latent) -> tuple[Flat, Scalar]:
        """u = T⁻¹(z) and log |det ∂T/∂u| at that u, in nats."""


class AbstractModel(eqx.Module):
    """log p(x, z) with the data inside.

    A model is a pytree: its data arrays are leaves, everything else is static. A compiled function of the model is
    therefore reused for new data of the same shapes.
    """

    bijection: eqx.AbstractVar[AbstractBijection]

    @abc.abstractmethod
    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """Elementwise log densities in nats, one array per site, over the site's plates."""

    def log_density(self, point: Flat, batch: Any = None) -> Scalar:
        """log p(x, T(u)) + log |det ∂T/∂u|: the log joint (of a batch) as a density over R^D, in nats."""
        terms, log_det = self.terms_at(point, batch)
        return total(terms) + log_det

    def terms_at(self, point: Flat, batch: Any = None) -> tuple[Terms, Scalar]:
        """The terms of the log joint at T(u), in nats, and log |det ∂T/∂u|."""
        latent, log_det = self.bijection.forward(point)
        return self.log_joint(latent, batch), log_det

    @property
    def handled(self) -> Any:
        """This model, where it is a NumPyro program with its data that effect handlers can run in other ways."""
        return None

    @property
    def source(self) -> Any:
        """(program, arrays, constants) that can be run forward at values of the latents; `None` for a bare density."""
        return None

    @property
    def constants(self) -> Mapping[str, Any]:
        """Arguments of the program that compiled programs hold as constants."""
        return {}

    @property
    def failure(self) -> Exception | None:
        """The first error of a density outside JAX, which could not be raised inside a compiled program."""
        return None

    @abc.abstractmethod
    def constrain(self, point: Flat) -> Latent:
        """T(u) together with the model's deterministic sites at T(u)."""
