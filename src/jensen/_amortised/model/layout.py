"""Which latents belong to a row, and how a row's unconstrained coordinates lie in the sites' arrays."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to

from jensen._base.typing import Array
from jensen._program.structure import Site, Structure, plate_axis


@dataclass(frozen=True)
class RowSite:
    """A continuous latent of a row: its coordinates start..stop of the row's vector, (*shape) with rows on `axis`."""

    name: str
    support: Any
    axis: int
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class CodeSite:
    """A discrete latent of a row; the rows are on `axis` of its value."""

    site: Site
    axis: int

    @property
    def name(self) -> str:
        """The site's."""
        return self.site.name


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Latents and terms of one plate.

    Attributes:
        plate: its name; dim: its (negative) batch dimension.
        continuous, codes: latents inside it. shared: continuous latents outside, in the order of the program.
        inside: every site inside it, observed ones and factors too. observed: those of all sites that are no latents.
        dim: unconstrained coordinates of one row; shared_dim: those of what all rows share.
    """

    plate: str
    plate_dim: int
    continuous: tuple[RowSite, ...]
    codes: tuple[CodeSite, ...]
    shared: tuple[Site, ...]
    inside: frozenset[str]
    observed: frozenset[str]

    @property
    def dim(self) -> int:
        """Unconstrained coordinates of one row."""
        return self.continuous[-1].stop if self.continuous else 0

    @property
    def shared_dim(self) -> int:
        """Unconstrained coordinates of the latents outside the plate."""
        return sum(site.size for site in self.shared)

    def values(self, point: Array) -> tuple[dict[str, Array], Array]:
        """(site -> value on its support, log |det| of each row) at unconstrained rows, (rows, dim)."""
        rows = point.shape[0]
        found, log_det = {}, jnp.zeros(rows, point.dtype)
        for site in self.continuous:
            transform = biject_to(site.support)
            raw = jnp.moveaxis(point[:, site.start : site.stop].reshape(rows, *site.shape), 0, site.axis)
            value = transform(raw)
            found[site.name] = value
            own = transform.log_abs_det_jacobian(raw, value)
            log_det = log_det + jnp.sum(jnp.moveaxis(own, site.axis, 0).reshape(rows, -1), axis=1)
        return found, log_det

    def shared_values(self, point: Array) -> tuple[dict[str, Array], Array]:
        """(site -> value, log |det|) of what all rows share."""
        found, log_det, start = {}, jnp.zeros((), point.dtype), 0
        for site in self.shared:
            transform = biject_to(site.support)
            raw = point[start : start + site.size].reshape(site.unconstrained_shape)
            start += site.size
            found[site.name] = transform(raw)
            log_det = log_det + jnp.sum(transform.log_abs_det_jacobian(raw, found[site.name]))
        return found, log_det

    def by_row(self, term: Array, rows: int) -> Array:
        """The sum of a term's entries over each row, (rows,)."""
        axis = term.ndim + self.plate_dim
        return jnp.sum(jnp.moveaxis(term, axis, 0).reshape(rows, -1), axis=1)


def layout_of(structure: Structure, plate: str) -> RowLayout:
    """The layout of a plate of an analysed model."""
    continuous: list[RowSite] = []
    codes: list[CodeSite] = []
    shared: list[Site] = []
    inside, start = set(), 0
    for site in structure.sites.values():
        axis = plate_axis(site, plate)
        if axis is not None:
            inside.add(site.name)
        if site.kind != "latent":
            continue
        if axis is None:
            shared.append(site)
            continue
        if site.discrete:
            codes.append(CodeSite(site, axis))
            continue
        shape = tuple(size for i, size in enumerate(site.unconstrained_shape) if i != axis)
        stop = start + int(np.prod(shape, dtype=int))
        continuous.append(RowSite(site.name, site.support, axis, shape, start, stop))
        start = stop
    seen = frozenset(site.name for site in structure.sites.values() if site.kind in ("observed", "factor"))
    return RowLayout(
        plate, structure.plates[plate].dim, tuple(continuous), tuple(codes), tuple(shared), frozenset(inside), seen
    )
