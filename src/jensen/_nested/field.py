"""The log density of a few hyperparameters θ, with a field z that is nearly Gaussian given them integrated out."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Flat, Latent, PRNGKey, Scalar, Terms
from jensen._core import total
from jensen._model.numpyro import NumPyroModel
from jensen._model.reduced_density import AbstractReduced
from jensen._nested import laplace, moves
from jensen._nested.order import Order
from jensen._nested.states import States
from jensen._nested.unsummed import Unsummed
from jensen._program.bijection import SiteBijection


class Drawn(NamedTuple):
    """Draws of the field, (m, D), each with the mode, the damping on the way to it, and the share of accepted moves."""

    field: Array
    mode: Array
    damping: Scalar
    accepted: Scalar


class FieldModel(AbstractReduced):
    """log p(x, θ) = log ∫ p(x, z, θ) dz, by Laplace's approximation and draws of what it misses (`laplace`).

    Attributes:
        base: the program. bijection: the chart of θ, and `chart` of z. sites: names of the field's sites.
        where: (D,) positions of the field's coordinates among all, and of θ's after them.
        order: the algebra of the field's precision.
        start: (D,) field at which the search for its mode begins.
        noise: (D, n) standard normal draws, which are mirrored.
        computed: deterministic sites that depend on the field.
        states: where the program adds up z, which is then told by the sums: the field's coordinates.
    """

    base: NumPyroModel
    bijection: SiteBijection
    chart: SiteBijection
    sites: tuple[str, ...] = eqx.field(static=True)
    where: np.ndarray
    order: Order
    start: Array
    noise: Array
    computed: tuple[str, ...] = eqx.field(static=True)
    states: States | None = eqx.field(static=True, default=None)

    def joined(self, point: Flat, field: Array) -> Flat:
        """All coordinates of the program's own chart."""
        return jnp.zeros(len(self.where), field.dtype).at[self.where].set(jnp.concatenate([field, point]))

    def joint(self, point: Flat, field: Array) -> Scalar:
        """The program's log density at θ and z, over all its own coordinates, in nats."""
        latent, log_det = self.bijection.forward(point)
        return total(self.base.log_joint({**latent, **self.chart.forward(field)[0]})) + log_det

    def given(self, point: Flat) -> Unsummed:
        """The same as a function of z alone, or of the states that z makes."""
        return Unsummed(lambda field: self.joint(point, field), self.start, self.states)

    def near(self, density: Unsummed) -> laplace.Mode:
        """The mode of the field's density, held constant by differentiation."""
        return laplace.mode(density.held(), self.start, self.order)

    def at(self, point: Flat) -> tuple[Scalar, tuple[Array, Scalar]]:
        """Log p(x, θ) at u, as a density over R^d, in nats; the field's mode, and the damping on the way to it."""
        density = self.given(point)
        near = self.near(density)
        return laplace.log_integral(density, near, self.noise, self.order), (near.z, near.damping)

    def log_density(self, point: Flat, batch: Any = None) -> Scalar:
        """Log p(x, θ) at u, in nats."""
        del batch
        return self.at(point)[0]

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """The log density of θ on its support, as one term."""
        del batch
        point, log_det = self.bijection.inverse(latent)
        return {", ".join(self.sites): self.at(point)[0] - log_det}

    def drawn(self, point: Flat, keys: PRNGKey) -> tuple[Latent, Drawn]:
        """θ at u, (m,) draws of the field given θ, all deterministic sites, and what the draws went through.

        They share the search for the mode.
        """
        density = self.given(point)
        near = self.near(density)
        fields, accepted = jax.vmap(lambda key: moves.draw(density, near, self.order, key))(keys)
        latent = jax.vmap(lambda field: self.base.constrain(self.joined(point, density.latents(field))))(fields)
        one = Drawn(fields, near.z[None], near.damping[None], accepted)
        return latent, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape[1:])), one)
