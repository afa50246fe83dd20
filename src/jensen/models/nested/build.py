"""From a target over all latents to one over θ alone."""

import dataclasses

import numpy as np

from jensen.math.precision import float_type, working
from jensen.models import analysis
from jensen.models.bijection import SiteBijection
from jensen.models.nested.layout import Layout
from jensen.models.nested.model import NestedModel
from jensen.models.nested.quadrature import nodes
from jensen.models.nested.search import find_groups
from jensen.models.nested.target import NestedTarget
from jensen.models.numpyro import NumPyroModel
from jensen.models.structure import Structure
from jensen.models.target import Target

WIDTH = 2e7
"""Data values that one call of the compiled density reads: its program is long, so there is one width of batch."""
HEAVY = 5e6
"""Data values from which on few starts and draws have to do."""
NODES = {1: 15, 2: 9}
"""Quadrature nodes along each of the latents of a group, by their number."""


def integrated(target: Target, per_axis: int | None = None) -> Target | None:
    """The density of θ with independent groups of latents integrated out; `None` for a model without such groups."""
    layout = find_groups(target)
    return None if layout is None else over_theta(target, layout, per_axis)


def over_theta(target: Target, layout: Layout, per_axis: int | None = None) -> Target:
    """The density of what `layout` leaves, with `per_axis` nodes for each latent of a group."""
    base, structure = target.model, target.structure
    assert isinstance(base, NumPyroModel)  # which `find_groups` has seen to
    chart = base.bijection
    assert isinstance(chart, SiteBijection)
    reduced = _without(structure, layout.sites)
    field = Structure({name: structure.sites[name] for name in structure.offsets if name in layout.sites}, {})
    per_axis = per_axis or NODES[layout.size]
    points, log_weights = nodes(per_axis, layout.size)
    dtype = float_type(target.precision)
    with working(target.precision):
        parents = analysis.dependencies(base.fn, structure, base.kwargs)
    computed = tuple(s.name for s in structure.deterministic if set(parents.get(s.name, ())) & set(layout.sites))
    model = NestedModel(
        base=base,
        bijection=SiteBijection(reduced, {k: v for k, v in chart.bounds.items() if k not in layout.sites}),
        field=SiteBijection(field, {k: v for k, v in chart.bounds.items() if k in layout.sites}),
        layout=layout,
        start=np.zeros(layout.members.shape, dtype),
        points=points.astype(dtype),
        log_weights=log_weights.astype(dtype),
        per_axis=per_axis,
        computed=computed,
    )
    found = NestedTarget(model, reduced, target.precision)
    found.costs(rows=target.elements, times=5 * len(points))
    found.wide, found.widths = int(np.clip(2 ** int(np.log2(WIDTH / found.elements + 1)), 2, 64)), ()
    found.heavy, found.second_order = found.elements >= HEAVY, False
    return found


def nodes_of(target: Target) -> int:
    """Quadrature nodes along each latent of a group; 0 for a target with nothing integrated out."""
    return target.model.per_axis if isinstance(target.model, NestedModel) else 0


def _without(structure: Structure, names: tuple[str, ...]) -> Structure:
    sites = {
        name: dataclasses.replace(site, integrated=True) if name in names else site
        for name, site in structure.sites.items()
    }
    return Structure(sites, structure.plates)
