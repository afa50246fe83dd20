"""A model's analysis with some of its latents integrated out."""

import dataclasses

from jensen.math.precision import working
from jensen.models import analysis
from jensen.models.numpyro import NumPyroModel
from jensen.models.structure import Structure
from jensen.models.target import Target


def without(structure: Structure, names: tuple[str, ...]) -> Structure:
    """The structure with these sites integrated out."""
    sites = {
        name: dataclasses.replace(site, integrated=True) if name in names else site
        for name, site in structure.sites.items()
    }
    return Structure(sites, structure.plates)


def computed(target: Target, names: tuple[str, ...]) -> tuple[str, ...]:
    """Deterministic sites that depend on these latents."""
    base, structure = target.model, target.structure
    assert isinstance(base, NumPyroModel)
    with working(target.precision):
        parents = analysis.dependencies(base.fn, structure, base.data, base.fixed.value)
    return tuple(s.name for s in structure.deterministic if set(parents.get(s.name, ())) & set(names))
