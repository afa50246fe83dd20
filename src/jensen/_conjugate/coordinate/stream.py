"""A model whose rows come in batches: its analysis from the first of them, and q over what all rows share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from jensen._base.errors import DataError
from jensen._conjugate.algebra import ConjugateModel, ConjugateTarget, Naturals
from jensen._conjugate.algebra.plates import split
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._conjugate.coordinate.solution import Solution, flat
from jensen._core import AbstractTarget
from jensen._data.sources import AbstractSource
from jensen._families.exponential import Product
from jensen._math.precision import Precision, working
from jensen._model.program import BoundProgram
from jensen._program.folding import sources_of
from jensen._program.number_widths import seeded
from jensen._program.structure import Site, Structure


@dataclass(frozen=True, eq=False)
class StreamTarget(AbstractTarget):
    """What stochastic steps run on where the rows are not held.

    Attributes:
        batches: the model at the shapes of batches. source: the rows. size: how many.
        structure: sites and plates, without the latents of the rows.
    """

    batches: Minibatches
    source: AbstractSource
    size: int
    structure: Structure
    gradients: int = 0
    values: int = 0

    def __repr__(self) -> str:
        return f"StreamTarget({', '.join(self.batches.order)}; {self.size} rows)"

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.batches.precision

    @property
    def model(self) -> ConjugateModel:
        """The model of one batch, without its data."""
        return self.batches.model

    @property
    def program(self) -> BoundProgram:
        """The program with the first batch."""
        return self.batches.target.program

    @property
    def scalars(self) -> float:
        """Observed scalars in all rows, about."""
        return self.model.rows * self.size / self.batches.rest.rows

    @property
    def local_sites(self) -> tuple[str, ...]:
        """Latents of the rows, whose factors are left implicit."""
        blocks = self.model.blocks
        return tuple(site for name in self.batches.rest.parts.local for site in blocks[name].sites)


def stream_target(
    fn: Callable[..., Any], source: AbstractSource, precision: Precision, tolerance: float, plate: str | None
) -> StreamTarget:
    """Check and analyse the first batch, and count the rows."""
    with working(precision):
        batches = Minibatches(fn, precision, tolerance, plate, size=source.size)
        batches.first(source.example())
        if source.size is None:
            source.size = sum(sum(batches.rows_of(piece) for piece in batch) for batch in source.whole())
        if source.size < batches.rest.rows:
            raise DataError(
                f"size is {source.size}, but the first batch alone has {batches.rest.rows} rows.",
                f"Plate '{batches.plate}'.",
                "Pass the number of rows of all batches together, or leave it out and have them counted.",
            )
        batches.size = source.size
        return StreamTarget(batches, source, source.size, _structure(batches, source.size))


class Streamed(eqx.Module):
    """q of the global latents, where the rows are not held; the factors of the rows are functions of it.

    Attributes:
        naturals: natural parameters of the global blocks. target: the model.
    """

    naturals: Naturals
    target: StreamTarget = eqx.field(static=True)

    def __repr__(self) -> str:
        return f"Streamed({', '.join(self.naturals)})"

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.target.precision

    @property
    def infos(self) -> dict[str, SiteInfo]:
        """Sample sites outside the rows."""
        local = self.target.local_sites
        return {name: site for name, site in self.target.model.sites.items() if name not in local}

    def product(self) -> Product:
        """The global factors."""
        return self.target.batches.product(self.naturals)

    def held(self) -> Product:
        """The same."""
        return self.product()

    def arrays(self) -> dict[str, np.ndarray]:
        """The natural parameters as flat names: `block/statistic`."""
        return flat(self.naturals)

    def elbo(self) -> float:
        """The exact bound, from one pass over the rows, in nats."""
        batches, source = self.target.batches, self.target.source
        with working(self.precision):
            moments, _ = batches.moments_of(self.naturals)
            sums = batches.whole(moments, source.whole())
            return float(batches.update(moments, self.naturals, sums, 1.0)[2])


def reached(batches: Minibatches, target: ConjugateTarget | StreamTarget, naturals: Naturals) -> Solution | Streamed:
    """q, its local factors left implicit; the global ones only where the rows come from outside."""
    if isinstance(target, StreamTarget):
        return Streamed(naturals, target)
    assert batches.plate is not None
    return Solution(naturals, {}, target, split(target.model, batches.plate))


def _structure(batches: Minibatches, size: int) -> Structure:
    """The sites of all rows together: latents of the rows left out, and what is computed from rows."""
    found, plate, rows = batches.target.structure, batches.plate, batches.rest.rows
    local = {s for n in batches.rest.parts.local for s in batches.model.blocks[n].sites}
    shared = _shared_values(batches, local)
    sites: dict[str, Site] = {}
    for name, site in found.sites.items():
        if name in local or (site.kind == "deterministic" and (name not in shared or rows in site.shape)):
            continue
        dim = next((p.dim for p in site.plates if p.name == plate), None)
        if dim is not None:
            shape = list(site.shape)
            shape[len(shape) - site.event_dim + dim] = size
            plates = tuple(replace(p, size=size) if p.name == plate else p for p in site.plates)
            site = replace(site, shape=tuple(shape), plates=plates)
        sites[name] = site
    kept = {p.name: p for s in sites.values() if s.kind in ("latent", "deterministic") for p in s.plates}
    return Structure(sites, kept)


def _shared_values(batches: Minibatches, local: set[str]) -> set[str]:
    """Deterministic sites that neither rows of data nor latents of rows enter."""
    program, structure = batches.target.program, batches.target.structure
    names = [site.name for site in structure.deterministic]
    if not names:
        return set()
    latents = {s.name: jax.ShapeDtypeStruct(s.shape, _kind(s)) for s in structure.sites.values() if s.kind == "latent"}
    rows = {k: v for k, v in program.arrays.items() if np.shape(v)[:1] == (batches.rest.rows,)}
    outer = {k: v for k, v in latents.items() if k not in local}
    inner = {k: v for k, v in latents.items() if k in local}

    def run(moving: Any, values: Any) -> list[Any]:
        data, own = moving
        fn = handlers.substitute(seeded(program.fn), data={**own, **values})
        trace = handlers.trace(fn).get_trace(**{**program.kwargs, **data})
        return [trace[name]["value"] for name in names]

    closed = jax.make_jaxpr(run)((rows, inner), outer)
    count = len(jax.tree.leaves((rows, inner)))
    sources = sources_of(closed.jaxpr)
    return {name for name, found in zip(names, sources, strict=True) if min(found, default=count) >= count}


def _kind(site: Site) -> Any:
    return jnp.result_type(int if site.support.is_discrete else float)
