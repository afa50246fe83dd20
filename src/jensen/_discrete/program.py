"""A NumPyro program's factors as tables over its discrete latents."""

import functools
import operator
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.interpreters.partial_eval import dce_jaxpr
from numpyro import handlers

from jensen._discrete.interpret import Limits, evaluate
from jensen._discrete.layout import DiscreteLayout
from jensen._discrete.table import Table, lift, union
from jensen._program.number_widths import seeded
from jensen._program.scans import AtOnce
from jensen._program.statements import masks
from jensen._program.static_arguments import Frozen

STATES, ELEMENTS = 1_000_000, 2**28
"""Largest number of joint states of the latents that one factor may depend on, and of elements of a table."""
_TRACED: "weakref.WeakKeyDictionary[Any, dict[Any, tuple[Any, ...]]]" = weakref.WeakKeyDictionary()
"""Factors as equations, by the function and by what it was traced at."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A factor, or several already combined: log densities over enumerated axes and the batch axes `shape`.

    `names` are the sites it came from; `scale` is a power it is still to be raised to, with its name. `parts` say the
    same as the table of a factor inside a scan: its first step, the odd steps, and the even ones after the first (the
    first axis). `picks` says, for the axis of a site whose rows are picked by an index, which row each entry sees.
    """

    names: tuple[str, ...]
    table: Table
    shape: tuple[int, ...]
    scale: tuple[Any, Table] | None = None
    parts: tuple[Table, ...] | None = None
    picks: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def dims(self) -> frozenset[tuple[int, int]]:
        """Batch axes (position from the right, size)."""
        return frozenset((i - len(self.shape), n) for i, n in enumerate(self.shape) if n > 1)


@dataclass(eq=False)
class Run:
    """What one run of the program left behind: arrays by site, and what is static about them."""

    log_probs: dict[str, Any] = field(default_factory=dict)
    scales: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)
    scale_names: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, tuple[Any, ...]] = field(default_factory=dict)


def run(fn: Callable[..., Any], kwargs: dict[str, Any], values: dict[str, Any]) -> Run:
    """Log densities of all sites with the latents at `values`, scales and the masks of latents apart."""
    scans = AtOnce(alternating=True)
    with scans:
        trace = handlers.trace(handlers.substitute(seeded(fn), data=values)).get_trace(**kwargs)
    out = Run(parts=scans.parts)
    for name, site in trace.items():
        if site["type"] != "sample":
            continue
        # NumPyro's support checks do not take a NumPy value beside a traced bound.
        own = scans.log_probs.get(name)
        out.log_probs[name] = site["fn"].log_prob(jnp.asarray(site["value"])) if own is None else own
        scale = site["scale"]
        if scale is not None:
            concrete = isinstance(scale, (int, float, np.number, np.ndarray)) and np.ndim(scale) == 0
            out.scales[name] = jnp.asarray(scale)
            out.scale_names[name] = float(scale) if concrete else id(scale)
        around = masks(site["fn"])
        if not site["is_observed"] and around:
            out.masks[name] = functools.reduce(operator.and_, around)
    return out


def _traced(fn: Callable[..., Any], fixed: dict[str, Any], inputs: tuple[dict[str, Any], ...]) -> tuple[Any, ...]:
    """(jaxpr, its constants, tree of shapes, names of scales) of the factors at (latents, discrete latents, data).

    Nothing of a layout enters: what tries layouts, checks one, and evaluates the density share one trace.
    """
    leaves, tree = jax.tree.flatten(inputs)
    key = (tree, tuple(jax.typeof(leaf) for leaf in leaves), Frozen(fixed), jnp.result_type(float).name)
    known = _TRACED.setdefault(fn, {}) if isinstance(fn, FunctionType) else {}
    if key in known:
        return known[key]
    names: dict[str, Any] = {}

    def factors(latent: dict[str, Any], discrete: dict[str, Any], data: dict[str, Any]) -> Any:
        done = run(fn, {**data, **fixed}, {**latent, **discrete})
        names.update(done.scale_names)
        masks = {name: mask for name, mask in done.masks.items() if name in discrete}
        return {"log_prob": done.log_probs, "scale": done.scales, "mask": masks, "parts": done.parts}

    closed, shapes = jax.make_jaxpr(factors, return_shape=True)(*inputs)
    live, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    found = live, closed.consts, shapes, names
    if not any(isinstance(const, Tracer) for const in closed.consts):
        known[key] = found
    return found


def pieces_of(
    fn: Callable[..., Any], data: dict[str, Any], fixed: dict[str, Any], latent: dict[str, Any], layout: DiscreteLayout
) -> tuple[list[Piece], dict[str, Any]]:
    """The program's factors as tables, and the name of the scale that each site is under.

    Entries of a discrete latent that are masked out get a uniform distribution, so that they integrate to one.
    """
    sites = layout.sites
    discrete = {name: jax.ShapeDtypeStruct(site.shape, jnp.result_type(int)) for name, site in sites.items()}
    live, consts, tree, names = _traced(fn, fixed, (latent, discrete, data))
    tables = {name: site.table() for name, site in sites.items()}
    inputs = [
        *(Table(leaf) for leaf in jax.tree.leaves(latent)),
        *(tables[name] for name in sorted(tables)),  # a pytree's own order
        *(Table(leaf) for leaf in jax.tree.leaves(data)),
    ]
    limits = Limits(layout.sizes, STATES, ELEMENTS)
    out = evaluate(live, consts, inputs, limits)
    found = jax.tree.unflatten(jax.tree.structure(tree), out)
    shapes = jax.tree.map(lambda leaf: tuple(leaf.shape), tree["log_prob"], is_leaf=lambda leaf: hasattr(leaf, "shape"))
    pieces = []
    for name, table in found["log_prob"].items():
        scale = (names[name], found["scale"][name]) if name in names else None
        if name in found["mask"]:
            table = _masked(table, found["mask"][name], len(sites[name].values), limits)
        parts = found["parts"].get(name) if scale is None and name not in found["mask"] else None
        picks = {a: sites[n].index[name] for n in sites for a in sites[n].axes if name in sites[n].index}
        picks = {axis: index for axis, index in picks.items() if axis in table.axes}
        pieces.append(Piece((name,), table, shapes[name], scale, parts, picks))
    order = {name: i for i, name in enumerate(names_in_order(pieces, sites))}
    return sorted(pieces, key=lambda piece: order.get(piece.names[0], 0)), names


def names_in_order(pieces: list[Piece], sites: dict[str, Any]) -> list[str]:
    """Site names, discrete latents in the order of the program first."""
    return [*sites, *(piece.names[0] for piece in pieces if piece.names[0] not in sites)]


def _masked(table: Table, mask: Table, values: int, limits: Limits) -> Table:
    axes = union([table, mask])
    ndim = max(len(table.natural), len(mask.natural))
    return Table(jnp.where(lift(mask, axes, ndim), lift(table, axes, ndim), -np.log(values)), axes)
