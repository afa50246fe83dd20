"""From a target over all latents to one over θ alone."""

from collections.abc import Mapping

import numpy as np

from jensen._base.errors import OptionError
from jensen._base.typing import leaf
from jensen._math.precision import float_type
from jensen._model import Target
from jensen._model.one_rotation import with_turns
from jensen._model.reduced_density import computed, without
from jensen._nested import fields
from jensen._nested.emulated import EmulatedTarget
from jensen._nested.layout import Layout
from jensen._nested.model import NestedModel
from jensen._nested.quadrature import nodes
from jensen._nested.search import find_groups
from jensen._nested.target import NestedTarget
from jensen._program.bijection import SiteBijection
from jensen._program.structure import Structure

NODES, FEWEST, SMALL = {1: 13, 2: 7}, 5, 0.05
"""Quadrature nodes along each of the latents of a group, by their number, and at least; nats that all integrals
together may be off for fewer to do."""


def integrated(target: Target, per_axis: int | None = None) -> NestedTarget | None:
    """The density of θ with independent groups of latents integrated out; `None` for a model without such groups."""
    layout = find_groups(target)
    return None if layout is None else over_theta(target, layout, per_axis)


def over_theta(target: Target, layout: Layout, per_axis: int | None = None) -> NestedTarget:
    """The density of what `layout` leaves, with `per_axis` nodes for each latent of a group."""
    base, structure = target.model.handled, target.structure
    chart = base.bijection
    assert isinstance(chart, SiteBijection)
    reduced = without(structure, layout.sites)
    field = Structure({name: structure.sites[name] for name in structure.offsets if name in layout.sites}, {})
    per_axis = per_axis or _nodes(layout)
    points, log_weights = nodes(per_axis, layout.size)
    dtype = float_type(target.precision)
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
        computed=computed(target, layout.sites),
    )
    return NestedTarget(model, reduced, target.precision).weigh(target.elements)


def _nodes(layout: Layout) -> int:
    """Where groups have many rows fewer nodes do: n leave an error of the order of (rows)^-⌊(n + 2) / 3⌋ in each.

    See Jin and Andersson (2020). The error itself is measured when q is known (`NestedTarget.error`).
    """
    if layout.quadratic:
        return 1
    order = np.log(layout.groups / SMALL) / np.log(max(layout.rows, 1.1))
    return int(np.clip(3 * np.ceil(order) - 2, FEWEST, NODES[layout.size]))


def on_chart(target: Target, saved: Mapping[str, np.ndarray]) -> Target:
    """The nested target that `NestedTarget.chart` has described."""
    exact = with_turns(_on_chart(target, saved), saved)
    assert isinstance(exact, NestedTarget)  # the rotation is one of the same sites
    return EmulatedTarget.on_chart(exact, saved)


def _on_chart(target: Target, saved: Mapping[str, np.ndarray]) -> NestedTarget:
    if "sites" in saved:
        return fields.on_chart(target, saved)
    found = integrated(target, int(saved["nodes"]))
    if found is None or found.model.start.shape != np.shape(saved["start"]):
        raise OptionError(
            "The latents that the saved fit integrates out are not independent groups of this model.",
            f"Groups and latents of one: {np.shape(saved['start'])}.",
            "Attach the model and the data it was fitted with.",
        )
    found = found.settled(np.asarray(saved["start"], found.model.start.dtype))
    return found.shared(np.zeros(found.dim), np.asarray(saved["shared"])) if "shared" in saved else found
