"""The log density of a few hyperparameters θ, with a field z that is nearly Gaussian given them integrated out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jensen._typing import Array, Flat, Latent, PRNGKey, Scalar, Terms
from jensen.core import AbstractModel, total
from jensen.math.known import split
from jensen.models.bijection import SiteBijection
from jensen.models.nested import laplace, moves
from jensen.models.nested.model import deterministic
from jensen.models.nested.order import Order
from jensen.models.numpyro import NumPyroModel


class Drawn(NamedTuple):
    """A draw of the field, (D,), the mode, the damping on the way to it, and the share of moves that were accepted."""

    field: Array
    mode: Array
    damping: Scalar
    accepted: Scalar


class FieldModel(AbstractModel):
    """log p(x, θ) = log ∫ p(x, z, θ) dz, by Laplace's approximation and draws of what it misses (`laplace`).

    Attributes:
        base: the program. bijection: the chart of θ. sites: names of the field's sites.
        where: (D,) positions of the field's coordinates among all, and of θ's after them.
        order: the field's latents in blocks.
        start: (D,) field at which the search for its mode begins.
        noise: (D, n) standard normal draws, which are mirrored.
        computed: deterministic sites that depend on the field.
    """

    base: NumPyroModel
    bijection: SiteBijection
    sites: tuple[str, ...] = eqx.field(static=True)
    where: np.ndarray
    order: Order
    start: Array
    noise: Array
    computed: tuple[str, ...] = eqx.field(static=True)

    @property
    def fixed(self) -> Any:
        """The program's constant arguments."""
        return self.base.fixed

    def joined(self, point: Flat, field: Array) -> Flat:
        """All coordinates of the program's own chart."""
        return jnp.zeros(len(self.where), field.dtype).at[self.where].set(jnp.concatenate([field, point]))

    def placed(self, field: Array) -> Latent:
        """The sites of the field, which are on the real line."""
        sites = [self.base.bijection.structure.sites[name] for name in self.sites]  # type: ignore[attr-defined]
        ends = np.cumsum([site.size for site in sites])
        return {s.name: field[end - s.size : end].reshape(s.shape) for s, end in zip(sites, ends, strict=True)}

    def density(self, point: Flat) -> tuple[Callable[[list[Array], Array], Scalar], list[Array]]:
        """(f, known): f(known, z) is the log joint density of the field z at θ, in nats.

        The program is traced once here, however often it is differentiated, and what depends on θ alone is computed
        once and `known`: the factor of a Gaussian process' covariance, say.
        """
        leaves, tree = jax.tree.flatten((self, point))

        def joint(*values: Any) -> Scalar:
            model, at = jax.tree.unflatten(tree, values[:-1])
            latent, log_det = model.bijection.forward(at)
            return total(model.base.log_joint({**latent, **model.placed(values[-1])})) + log_det

        return split(joint, leaves, self.start)

    def given(self, point: Flat) -> tuple[laplace.Density, laplace.Mode]:
        """The log joint density as one of the field alone, over R^D, in nats, and its mode, which is held constant."""
        density, known = self.density(point)
        held = lax.stop_gradient(known)
        near = laplace.mode(lambda field: density(held, field), self.start, self.order)
        return lambda field: density(known, field), near

    def at(self, point: Flat) -> tuple[Scalar, tuple[Array, Scalar]]:
        """Log p(x, θ) at u, as a density over R^d, in nats; the field's mode, and the damping on the way to it."""
        density, near = self.given(point)
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

    def constrain(self, point: Flat) -> Latent:
        """θ at u, and the deterministic sites that it determines."""
        latent, _ = self.bijection.forward(point)
        names = [s.name for s in self.bijection.structure.deterministic if s.name not in self.computed]
        return {**latent, **deterministic(self.base, latent, names)}

    def complete(self, point: Flat, key: PRNGKey) -> Latent:
        """θ at u, one draw of the field given θ, and all deterministic sites."""
        return self.drawn(point, key)[0]

    def drawn(self, point: Flat, key: PRNGKey) -> tuple[Latent, Drawn]:
        """`complete`, and what the draw went through."""
        density, near = self.given(point)
        at = laplace.gaussian(density, near, self.order)
        field, accepted = moves.draw(density, at, self.order, key)
        return self.base.constrain(self.joined(point, field)), Drawn(field, at.mode, near.damping, accepted)
