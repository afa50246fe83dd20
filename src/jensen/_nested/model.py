"""The log density of a few hyperparameters θ, with the groups of latents z that depend on them integrated out."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from jensen._base.typing import Array, Flat, Latent, PRNGKey, Scalar, Terms
from jensen._core import total
from jensen._core.family import stopped
from jensen._model.numpyro import NumPyroModel
from jensen._model.reduced_density import AbstractReduced
from jensen._nested import quadrature
from jensen._nested.draws import draws
from jensen._nested.layout import Layout
from jensen._nested.rows import log_rows, on_support
from jensen._nested.shared_nodes import Alike
from jensen._program.bijection import AbstractChart, SiteBijection


class NestedModel(AbstractReduced):
    """log p(x, θ) = Σ_g log ∫ p(rows of g, z_g | θ) dz_g + the log density of everything that sees no z.

    Attributes:
        base: the program. bijection: the chart of θ. field: that of z. layout: the groups.
        start: (G, k) latents at which the search for their modes begins.
        stretch: what the nodes' distance from the modes is multiplied by; one, but to see what the integrals owe to it.
        points, log_weights: (M, k) nodes and (M,) log weights of the quadrature; per_axis: nodes along each latent.
        computed: deterministic sites that depend on z. alike: what tells the integrals where groups share nodes.
    """

    base: NumPyroModel
    bijection: AbstractChart
    field: SiteBijection
    layout: Layout
    start: Array
    stretch: Array
    points: Array
    log_weights: Array
    per_axis: int = eqx.field(static=True)
    computed: tuple[str, ...] = eqx.field(static=True)
    alike: Alike | None = None

    def _rows(self, latent: Latent, z: Array) -> dict[str, Array]:
        """All rows at θ and (G, k) latents; those of the field's Jacobian besides."""
        flat = jnp.zeros(self.field.dim, z.dtype).at[self.layout.members].set(z)
        placed, extra = on_support(self.field, flat)
        own = {f"{name}|": value for name, value in extra.items()}
        return {**log_rows(self.base, {**latent, **placed}), **own}

    def _groups(self, latent: Latent, z: Array) -> tuple[Array, Array]:
        return self.layout.by_group(self._rows(latent, z))

    def centre(self, latent: Latent) -> quadrature.Centre:
        """Modes and scales of the groups at θ, held constant by differentiation."""
        held = stopped(latent)
        found = quadrature.centre(lambda z: self._groups(held, z), self.start, self.layout.quadratic)
        return found._replace(factor=self.stretch * found.factor)

    def at(self, point: Flat) -> tuple[Scalar, tuple[Array, float]]:
        """Log p(x, θ) at u, as a density over R^d, in nats, and the modes of the groups, which need no damping."""
        latent, log_det = self.bijection.forward(point)
        centre = None if self.alike is not None else self.centre(latent)
        mode = self.start if centre is None else centre.mode
        return total(self._terms(latent, centre)) + log_det, (mode, 0.0)

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """Log integrals of the groups under the field's names, and the sum of all rows that see no z."""
        del batch
        return self._terms(latent, None if self.alike is not None else self.centre(latent))

    def _terms(self, latent: Latent, at: quadrature.Centre | None) -> Terms:
        if at is None:
            assert self.alike is not None  # else there is a centre
            rows = lambda z: self._rows(latent, z)  # noqa: E731
            groups, rest = self.alike.log_integrals(rows, self.layout, self.stretch)
        else:
            density = lambda z: self._groups(latent, z)  # noqa: E731
            groups, rest = quadrature.log_integral(density, at, self.points, self.log_weights)
        return {", ".join(self.layout.sites): groups, "the rest": rest}

    def log_density(self, point: Flat, batch: Any = None) -> Scalar:
        """log p(x, θ) at u, as a density over R^d, in nats."""
        del batch
        return self.at(point)[0]

    def looked(self, point: Flat, others: Array, at: Array) -> tuple[quadrature.Centre, dict[str, Array]]:
        """Modes and scales of the groups at u; rows of sites that see groups, and their slopes, at other places.

        There all groups are at one latent: `at` (n,), with `others` (n, d).
        """

        def rows(point: Flat, z: Array) -> dict[str, Array]:
            found = self._rows(self.bijection.forward(point)[0], jnp.full(self.start.shape, z))
            return {name: jnp.ravel(found[name]) for name, own in self.layout.owners.items() if own.how != "alone"}

        both = [jax.jvp(lambda z, u=u: rows(u, z), (z,), (jnp.ones_like(z),)) for u, z in zip(others, at, strict=True)]
        columns = [one for pair in both for one in pair]
        seen = {name: jnp.stack([column[name] for column in columns], axis=1) for name in columns[0]}
        return self.centre(self.bijection.forward(point)[0]), seen

    def drawn(self, point: Flat, keys: PRNGKey) -> tuple[Latent, None]:
        """θ at u, (m,) draws of z given θ, and all deterministic sites; they share the search for the modes."""
        latent, _ = self.bijection.forward(point)
        density = lambda z: self._groups(latent, z)  # noqa: E731
        found = draws(density, self.centre(latent), keys[0], len(keys), self.layout.quadratic)

        def whole(z: Array) -> Latent:
            flat = jnp.zeros(self.field.dim, z.dtype).at[self.layout.members].set(z)
            return self.whole({**latent, **on_support(self.field, flat)[0]})

        return lax.map(whole, found), None
