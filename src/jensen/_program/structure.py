"""What the analysis of a model finds: sites, supports, plates and who depends on whom."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Plate:
    """A plate as declared: its name, its (negative) batch dimension and its size."""

    name: str
    dim: int
    size: int


@dataclass(frozen=True)
class Site:
    """One site of the model.

    `kind` is latent, observed, factor or deterministic. `shape` is the value's shape on the support, of which the
    last `event_dim` axes are one event; `unconstrained_shape` is the shape in R^D (latents only). `parents` are the
    latents that this site's log density depends on, itself excluded. A discrete latent has no unconstrained
    coordinates; one to be summed out lists its `values`, (K,), and `scanned` says that its first axis is the time of a
    `scan`. A continuous latent that is `integrated` out has none either. `law` is the class of a NumPyro distribution,
    without what is wrapped around it.
    """

    name: str
    kind: Literal["latent", "observed", "factor", "deterministic"]
    distribution: str
    support: Any
    shape: tuple[int, ...]
    event_dim: int
    plates: tuple[Plate, ...]
    unconstrained_shape: tuple[int, ...] = ()
    parents: tuple[str, ...] = ()
    masked: bool = False
    data_key: str | None = None
    values: np.ndarray | None = None
    scanned: bool = False
    integrated: bool = False
    law: type | None = None

    @property
    def discrete(self) -> bool:
        """Whether it is a latent with values in a discrete set: it has no unconstrained coordinates."""
        return self.kind == "latent" and bool(self.support.is_discrete)

    @property
    def size(self) -> int:
        """Number of unconstrained coordinates."""
        if self.values is not None:
            return 0
        return int(np.prod(self.unconstrained_shape, dtype=int))

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis names of the value: plate names where a plate claims the axis, `site_dim_i` elsewhere."""
        batch = len(self.shape) - self.event_dim
        by_axis = {batch + plate.dim: plate for plate in self.plates}
        return tuple(
            by_axis[i].name if i in by_axis and by_axis[i].size == self.shape[i] else f"{self.name}_dim_{i}"
            for i in range(len(self.shape))
        )


class Placed(Protocol):
    """Anything with a shape whose axes belong to plates: a site of either analysis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        ...

    @property
    def event_dim(self) -> int:
        """Its last axes, which are one event."""
        ...

    @property
    def plates(self) -> tuple[Plate, ...]:
        """Those that it is in."""
        ...


def plate_axis(site: Placed, plate: str) -> int | None:
    """The axis of a site's value along which the rows of this plate lie; `None` where the site is outside it."""
    return next((len(site.shape) - site.event_dim + p.dim for p in site.plates if p.name == plate), None)


@dataclass(frozen=True, eq=False)
class Structure:
    """The analysed model. Two structures are equal only when they are the same object, which jit caches rely on."""

    sites: dict[str, Site]
    plates: dict[str, Plate]
    offsets: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        start, offsets = 0, {}
        for site in self.latents:
            offsets[site.name] = start
            start += site.size
        object.__setattr__(self, "offsets", offsets)

    def _of(self, kind: str) -> list[Site]:
        return [site for site in self.sites.values() if site.kind == kind]

    @property
    def latents(self) -> list[Site]:
        """Latent sites in the order of the model's own execution, without those that are summed or integrated out."""
        return [site for site in self._of("latent") if site.values is None and not site.integrated]

    @property
    def summed(self) -> list[Site]:
        """Discrete latent sites that are summed out, in the order of the model's own execution."""
        return [site for site in self._of("latent") if site.values is not None]

    @property
    def conditional(self) -> list[Site]:
        """Latent sites without coordinates, summed or integrated out: they are drawn given the others."""
        return [site for site in self._of("latent") if site.values is not None or site.integrated]

    @property
    def drawn(self) -> list[Site]:
        """All latent sites: those with coordinates, then those drawn given them."""
        return [*self.latents, *self.conditional]

    @property
    def observed(self) -> list[Site]:
        """Observed sites; factors apart."""
        return self._of("observed")

    @property
    def deterministic(self) -> list[Site]:
        """Deterministic sites."""
        return self._of("deterministic")

    @property
    def dim(self) -> int:
        """Number of unconstrained coordinates D."""
        return sum(site.size for site in self.latents)

    def slices(self) -> Iterator[tuple[Site, slice]]:
        """Each latent with its slice of the flat unconstrained vector."""
        for site in self.latents:
            yield site, slice(self.offsets[site.name], self.offsets[site.name] + site.size)

    def coordinate_names(self) -> list[str]:
        """A label for each unconstrained coordinate: `tau`, `theta[0]`, `L[1,0]`."""
        names: list[str] = []
        for site in self.latents:
            if not site.unconstrained_shape:
                names.append(site.name)
            else:
                names.extend(f"{site.name}[{','.join(map(str, i))}]" for i in np.ndindex(site.unconstrained_shape))
        return names
