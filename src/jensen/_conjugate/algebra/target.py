"""A conjugate model together with the program and data that it was derived from."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jensen._conjugate.algebra.trace import SiteInfo
from jensen._core import AbstractTarget
from jensen._math.precision import Precision
from jensen._model.program import BoundProgram
from jensen._program.structure import Site, Structure

if TYPE_CHECKING:
    from jensen._conjugate.algebra.model import ConjugateModel
    from jensen._conjugate.algebra.partial import PartialModel

HEAVY = 200_000
"""Data values beyond which a pass over the data costs more than a compilation."""


@dataclass(frozen=True, eq=False)
class ConjugateTarget(AbstractTarget):
    """What the coordinate methods run on.

    Attributes:
        model: the expected log joint with its blocks.
        structure: sites and plates, discrete latents among them.
        program: the NumPyro program with its data.
        gradients, values: evaluations of the log density, of which there are none.
    """

    model: "ConjugateModel"
    structure: Structure
    program: BoundProgram
    gradients: int = 0
    values: int = 0

    def __repr__(self) -> str:
        return f"ConjugateTarget({', '.join(self.model.blocks)})"

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.program.precision

    @property
    def heavy(self) -> bool:
        """Whether a pass over the data costs more than a compilation."""
        return sum(np.size(array) for array in self.model.energy.arrays) >= HEAVY


@dataclass(frozen=True, eq=False)
class HybridTarget(AbstractTarget):
    """A model that is conjugate but for some latents.

    Attributes:
        model: the conjugate part as a function of the free latents. structure, program: as of a `ConjugateTarget`.
    """

    model: "PartialModel"
    structure: Structure
    program: BoundProgram
    gradients: int = 0
    values: int = 0

    def __repr__(self) -> str:
        return f"HybridTarget({', '.join((*self.model.conjugate.blocks, *self.model.free))})"

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.program.precision

    @property
    def heavy(self) -> bool:
        """Whether a pass over the data costs more than a compilation."""
        return sum(np.size(array) for array in self.model.arrays.values()) >= HEAVY


def in_blocks(structure: Structure, infos: dict[str, SiteInfo]) -> Structure:
    """The structure as coordinate ascent has it: discrete latents are not summed out, they have factors."""

    def seen(site: Site) -> Site:
        if site.name in infos:
            site = replace(site, distribution=infos[site.name].distribution)
        return replace(site, values=None, scanned=False, unconstrained_shape=site.shape) if site.discrete else site

    sites = {name: seen(site) for name, site in structure.sites.items()}
    return Structure(sites, {p.name: p for site in sites.values() for p in site.plates})
