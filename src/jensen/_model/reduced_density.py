"""A model with some of its latents integrated out, and its analysis."""

import dataclasses
from typing import Any

import equinox as eqx
from numpyro import handlers

from jensen._base.typing import Flat, Latent
from jensen._core import AbstractModel
from jensen._math.precision import working
from jensen._model.numpyro import NumPyroModel
from jensen._model.target import Target
from jensen._program import analysis
from jensen._program.bijection import AbstractChart
from jensen._program.number_widths import seeded
from jensen._program.structure import Structure


class AbstractReduced(AbstractModel):
    """The density of θ, the latents that are left.

    Attributes:
        base: the program. bijection: the chart of θ. computed: deterministic sites that depend on what left.
    """

    base: eqx.AbstractVar[NumPyroModel]
    bijection: eqx.AbstractVar[AbstractChart]
    computed: eqx.AbstractVar[tuple[str, ...]]

    @property
    def source(self) -> Any:
        """That of the program."""
        return self.base.source

    @property
    def constants(self) -> dict[str, Any]:
        """The program's constant arguments."""
        return self.base.constants

    def constrain(self, point: Flat) -> Latent:
        """θ at u, and the deterministic sites that it determines."""
        latent, _ = self.bijection.forward(point)
        names = [s.name for s in self.bijection.structure.deterministic if s.name not in self.computed]
        return {**latent, **deterministic(self.base, latent, names)}

    def whole(self, latent: Latent) -> Latent:
        """All latents, and all deterministic sites at them."""
        return {**latent, **deterministic(self.base, latent, [s.name for s in self.bijection.structure.deterministic])}


def deterministic(base: NumPyroModel, latent: Latent, names: list[str]) -> Latent:
    """Deterministic sites of a program at given latents."""
    if not names:
        return {}
    trace = handlers.trace(handlers.substitute(seeded(base.fn), data=latent)).get_trace(**base.kwargs)
    return {name: trace[name]["value"] for name in names}


def without(structure: Structure, names: tuple[str, ...]) -> Structure:
    """The structure with these sites integrated out."""
    sites = {
        name: dataclasses.replace(site, integrated=True) if name in names else site
        for name, site in structure.sites.items()
    }
    return Structure(sites, structure.plates)


def computed(target: Target, names: tuple[str, ...]) -> tuple[str, ...]:
    """Deterministic sites that depend on these latents."""
    base, structure = target.model.handled, target.structure
    with working(target.precision):
        parents = analysis.dependencies(base.fn, structure, base.data, base.fixed.value)
    return tuple(s.name for s in structure.deterministic if set(parents.get(s.name, ())) & set(names))
