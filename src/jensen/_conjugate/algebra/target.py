"""A conjugate model together with the program and data that it was derived from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpyro.distributions import biject_to

from jensen._conjugate.algebra.trace import SiteInfo
from jensen._core import AbstractTarget
from jensen._math.precision import Precision
from jensen._model.program import BoundProgram
from jensen._program.analysis import feasible_trace
from jensen._program.structure import Plate, Site, Structure

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


def structure_of(program: BoundProgram, infos: dict[str, SiteInfo]) -> Structure:
    """Sites and plates in the form that results are shown in. To be called while tracing."""
    sites = {}
    for name, statement in feasible_trace(program.fn, program.kwargs).items():
        if statement["type"] == "deterministic":
            frames = tuple(Plate(f.name, f.dim, f.size) for f in statement.get("cond_indep_stack", ()))
            shape = np.shape(statement["value"])
            event_dim = max(0, len(shape) + min((p.dim for p in frames), default=-len(shape)))
            sites[name] = Site(name, "deterministic", "Deterministic", None, shape, event_dim, frames)
        elif name in infos:
            sites[name] = _site(infos[name])
    return Structure(sites, {p.name: p for site in sites.values() for p in site.plates})


def _site(info: SiteInfo) -> Site:
    kind = "latent" if not info.observed else "factor" if info.support is None else "observed"
    free: tuple[int, ...] = ()
    if kind == "latent":
        free = info.shape if info.values is not None else tuple(biject_to(info.support).inverse_shape(info.shape))
    return Site(
        info.name,
        kind,
        info.distribution,
        info.support,
        info.shape,
        info.event_dim,
        info.plates,
        free,
        masked=info.masked,
        data_key=info.data_key,
    )
