"""From a target over all latents to one over θ alone."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jensen._errors import OptionError
from jensen._typing import leaf
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
TIMES = 5
"""Evaluations of the program for each node: values, gradients, and the search for modes."""
HEAVY, DEAR = 5e6, 3e4
"""Data values from which on few starts and draws have to do, and those from which on no mixture or flow is climbed."""
NODES = {1: 13, 2: 7}
"""Quadrature nodes along each of the latents of a group, by their number."""


def integrated(target: Target, per_axis: int | None = None) -> NestedTarget | None:
    """The density of θ with independent groups of latents integrated out; `None` for a model without such groups."""
    layout = find_groups(target)
    return None if layout is None else over_theta(target, layout, per_axis)


def over_theta(target: Target, layout: Layout, per_axis: int | None = None) -> NestedTarget:
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
        parents = analysis.dependencies(base.fn, structure, base.data, base.fixed.value)
    computed = tuple(s.name for s in structure.deterministic if set(parents.get(s.name, ())) & set(layout.sites))
    model = NestedModel(
        base=base,
        bijection=SiteBijection(reduced, {k: v for k, v in chart.bounds.items() if k not in layout.sites}),
        field=SiteBijection(field, {k: v for k, v in chart.bounds.items() if k in layout.sites}),
        layout=layout,
        start=leaf(np.zeros(layout.members.shape, dtype)),
        stretch=leaf(np.ones((), dtype)),
        points=leaf(points.astype(dtype)),
        log_weights=leaf(log_weights.astype(dtype)),
        per_axis=per_axis,
        computed=computed,
    )
    return _with_costs(NestedTarget(model, reduced, target.precision), target.elements)


def finer(target: NestedTarget) -> NestedTarget:
    """The same density with about twice the nodes."""
    model = target.model
    per_axis = 2 * model.per_axis + 1
    points, log_weights = (x.astype(model.points.dtype) for x in nodes(per_axis, model.layout.size))
    model = dataclasses.replace(model, points=points, log_weights=log_weights, per_axis=per_axis)
    rows = target.elements // (TIMES * len(target.model.points))
    return _with_costs(NestedTarget(model, target.structure, target.precision), rows)


def _with_costs(found: NestedTarget, rows: int) -> NestedTarget:
    """One width of batch, since the compiled program is long, and what an evaluation costs."""
    found.costs(rows=rows, times=TIMES * len(found.model.points))
    found.wide, found.widths = int(np.clip(2 ** int(np.log2(WIDTH / found.elements + 1)), 2, 64)), ()
    found.heavy, found.dear, found.second_order = found.elements >= HEAVY, found.elements >= DEAR, False
    return found


def on_chart(target: Target, saved: Mapping[str, np.ndarray]) -> Target:
    """The nested target that `NestedTarget.chart` has described."""
    found = integrated(target, int(saved["nodes"]))
    if found is None or found.model.start.shape != np.shape(saved["start"]):
        raise OptionError(
            "The latents that the saved fit integrates out are not independent groups of this model.",
            f"Groups and latents of one: {np.shape(saved['start'])}.",
            "Attach the model and the data it was fitted with.",
        )
    return found.settled(np.asarray(saved["start"], found.model.start.dtype))


def _without(structure: Structure, names: tuple[str, ...]) -> Structure:
    sites = {
        name: dataclasses.replace(site, integrated=True) if name in names else site
        for name, site in structure.sites.items()
    }
    return Structure(sites, structure.plates)
