"""From R^D to the support of every latent, site by site, with NumPyro's own transforms."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.util import sum_rightmost

from jensen._base.errors import ModelError
from jensen._base.typing import Flat, Latent, Scalar, Terms
from jensen._core import AbstractBijection
from jensen._program.structure import Site, Structure


class AbstractChart(AbstractBijection):
    """A map onto the latents of an analysed program.

    Attributes:
        structure: the analysis. bounds: supports whose parameters are data, by site.
    """

    structure: eqx.AbstractVar[Structure]
    bounds: eqx.AbstractVar[dict[str, Any]]

    def placed(self, point: Flat) -> tuple[Latent, Scalar, Terms]:
        """z, log |det ∂z/∂u| and the log densities of sites that the chart knows better than the value tells them."""
        return (*self.forward(point), {})

    @property
    def whole(self) -> tuple[str, ...]:
        """Latents whose axes say nothing: coordinates are made of all their entries together."""
        return ()

    def coordinate_names(self) -> list[str]:
        """A label for each coordinate."""
        return self.structure.coordinate_names()


class SiteBijection(AbstractChart):
    """u ∈ R^D ↦ {site: biject_to(support)(u[slice])}.

    `bounds` overrides the supports whose parameters are data (arrays); they are leaves, so new data with other
    bounds need no new compilation.
    """

    structure: Structure = eqx.field(static=True)
    bounds: dict[str, Any]

    @property
    def dim(self) -> int:
        """D."""
        return self.structure.dim

    def forward(self, point: Flat) -> tuple[Latent, Scalar]:
        """z and log |det ∂z/∂u|."""
        latent, log_det = {}, jnp.zeros((), point.dtype)
        for site, where in self.structure.slices():
            _refuse_discrete(site)
            transform = biject_to(self.bounds.get(site.name, site.support))
            raw = point[where].reshape(site.unconstrained_shape)
            latent[site.name] = transform(raw)
            log_det += _log_det(transform, raw, latent[site.name])
        return latent, log_det

    def inverse(self, latent: Latent) -> tuple[Flat, Scalar]:
        """u and log |det ∂z/∂u| at u."""
        pieces, log_det = [jnp.zeros((0,))], jnp.zeros(())
        for site in self.structure.latents:
            _refuse_discrete(site)
            transform = biject_to(self.bounds.get(site.name, site.support))
            raw = transform.inv(latent[site.name])
            pieces.append(jnp.reshape(raw, (-1,)))
            log_det += _log_det(transform, raw, latent[site.name])
        return jnp.concatenate(pieces), log_det


def _refuse_discrete(site: Site) -> None:
    """A discrete latent left out of the density would be drawn from its prior, unnoticed."""
    if site.discrete:
        raise ModelError(
            f"The discrete latent site '{site.name}' has no unconstrained coordinates.",
            f"Site '{site.name}', {site.distribution}.",
            "Use a method for discrete latents: 'bbvi'.",
        )


def _log_det(transform: Any, raw: Any, value: Any) -> Scalar:
    log_det = transform.log_abs_det_jacobian(raw, value)
    return jnp.sum(sum_rightmost(log_det, jnp.ndim(log_det)))


def on_the_line(support: Any) -> bool:
    """Whether the unconstrained coordinates are the values themselves."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real
