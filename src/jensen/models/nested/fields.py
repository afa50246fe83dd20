"""Which latents are a field, and the density of θ with it integrated out."""

import dataclasses
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import ModelError, OptionError, nearest
from jensen._typing import leaf
from jensen.math.precision import float_type, working
from jensen.math.programs import Program
from jensen.models.bijection import SiteBijection, on_the_line
from jensen.models.nested.field import FieldModel
from jensen.models.nested.field_target import FieldTarget
from jensen.models.nested.order import Order
from jensen.models.nested.pattern import pattern
from jensen.models.nested.reduced import computed, without
from jensen.models.numpyro import NumPyroModel
from jensen.models.target import Target

SMALLEST, REST = 8, 60
"""Latents of one site that may be part of a field; others that may be left."""
DENSE, WIDEST, MEMORY = 2200, 1200, 4e9
"""Latents up to which the precision may be dense; places in a block, and bytes for all blocks, at most."""
DRAWS = 32
"""Draws, which are mirrored, of what the Gaussian misses."""
POINTS, WIDE = 2, 8
"""Generic points at which the curvature is looked at, and products with it at once."""


def _products(model: FieldModel, point: jax.Array, field: jax.Array, directions: jax.Array) -> jax.Array:
    density, known = model.density(point)
    return jax.lax.map(jax.linearize(jax.grad(lambda z: density(known, z)), field)[1], directions)


class _Curvature:
    """Products of the Hessian over the field with directions, at a point of all coordinates, the field's first."""

    def __init__(self, model: FieldModel):
        self.model, self.run = model, Program(_products)

    def __call__(self, point: np.ndarray, directions: np.ndarray) -> np.ndarray:
        size = len(self.model.start)
        full = np.zeros((-(-len(directions) // WIDE) * WIDE, size), point.dtype)
        full[: len(directions)] = directions
        parts = [
            self.run(self.model, point[size:], point[:size], full[i : i + WIDE]) for i in range(0, len(full), WIDE)
        ]
        return np.concatenate(jax.device_get(parts))[: len(directions)].astype(float)


def applies(target: Target) -> bool:
    """Whether the model is a program whose latents have coordinates of their own and are not drawn in batches."""
    model = target.model
    sound = isinstance(model, NumPyroModel) and isinstance(model.bijection, SiteBijection)
    return sound and model.discrete is None and target.subsample is None  # type: ignore[attr-defined]


def candidates(target: Target) -> tuple[str, ...]:
    """Sites of many latents on the real line; none for a model that has no fields."""
    if not applies(target):
        return ()
    return tuple(s.name for s in target.structure.latents if s.size >= SMALLEST and on_the_line(s.support))


def over_field(target: Target, names: Iterable[str], draws: int = DRAWS) -> FieldTarget:
    """The density of all other latents, with these integrated out by `draws` mirrored draws."""
    if not applies(target):
        raise ModelError(
            "Only latents of a NumPyro program can be a field, all of them continuous or all data in one batch.",
            "Option: field.",
            "Write the model in NumPyro, without discrete latents, or use method='auto'.",
        )
    names = check(target, names)
    base, structure = target.model, target.structure
    assert isinstance(base, NumPyroModel)
    assert isinstance(base.bijection, SiteBijection)
    parts = {site.name: np.arange(where.start, where.stop) for site, where in structure.slices()}
    own = np.concatenate([parts[name] for name in names])
    rest = [where for name, where in parts.items() if name not in names]
    where = np.concatenate([own, *rest])
    dtype = float_type(target.precision)
    reduced = without(structure, names)
    model = FieldModel(
        base=base,
        bijection=SiteBijection(reduced, {k: v for k, v in base.bijection.bounds.items() if k not in names}),
        sites=names,
        where=where,
        order=Order.dense(len(own)),
        start=leaf(np.zeros(len(own), dtype)),
        noise=leaf(np.random.default_rng([0, 83]).normal(size=(len(own), draws)).astype(dtype)),
        computed=computed(target, names),
    )
    with working(target.precision):
        model = dataclasses.replace(model, order=ordered(model))
    return FieldTarget(model, reduced, target.precision).weigh(target.elements)


def check(target: Target, names: Iterable[str]) -> tuple[str, ...]:
    """The sites in the model's order; raises where one of them cannot be part of a field."""
    known = {site.name: site for site in target.structure.latents}
    wanted = tuple(names)
    for name in wanted:
        if name not in known:
            raise OptionError(
                f"There is no latent site '{name}' with coordinates.", "Option: field.", nearest(name, known)
            )
    rest = [site for name, site in known.items() if name not in wanted]
    if not wanted or not rest:
        what = "every latent" if wanted else "no latent"
        raise OptionError(f"The field holds {what}.", "Option: field.", "Name the sites of the field, not the others.")
    left = sum(site.size for site in rest)
    if left > REST:
        largest = ", ".join(f"'{site.name}' ({site.size})" for site in sorted(rest, key=lambda s: -s.size)[:3])
        raise ModelError(
            f"The field leaves {left} other latents, more than the {REST} for which it can be integrated out.",
            f"The largest of them: {largest}.",
            "Name sites that are nearly Gaussian given the others as part of `field`, or use method='auto'.",
        )
    return tuple(name for name in known if name in wanted)


def ordered(model: FieldModel) -> Order:
    """The order of the field in which its precision has a narrow band."""
    size = len(model.start)
    rng = np.random.default_rng(0)
    points = rng.normal(0.0, 0.7, (POINTS, len(model.where))).astype(model.start.dtype)
    curvature = _Curvature(model)

    def products(directions: np.ndarray) -> np.ndarray:
        return np.max([np.abs(curvature(point, directions)) for point in points], axis=0)

    order = Order.of(pattern(products, size), size)
    _affordable(order)
    if order.blocks > 1 and not _same(curvature, order, 0.5 * points[0] + 0.1):
        order = Order.dense(size)
        _affordable(order)
    return order


def _same(curvature: _Curvature, order: Order, point: np.ndarray) -> bool:
    """Whether the blocks say what a product with a random direction says."""

    def told(columns: jax.Array, direction: jax.Array) -> jax.Array:
        diagonal, below = order.assembled(columns)
        placed = order.placed(direction[:, None])
        whole = jnp.tril(diagonal) + jnp.swapaxes(jnp.tril(diagonal, -1), 1, 2)
        product = whole @ placed
        product = product.at[1:].add(below[:-1] @ placed[:-1])
        product = product.at[:-1].add(jnp.swapaxes(below[:-1], 1, 2) @ placed[1:])
        return order.taken(product)[:, 0]

    direction = np.random.default_rng(1).normal(size=order.size).astype(point.dtype)
    found = curvature(point, np.concatenate([np.asarray(order.directions), direction[None]]))
    expected = np.asarray(Program(told)(found[:-1].astype(point.dtype), direction))
    return bool(np.abs(expected - found[-1]).max() <= 1e-6 * (1e-300 + np.abs(found[-1]).max()))


def _affordable(order: Order) -> None:
    """Raise before anything is tried that would not fit."""
    size = 8.0 * 6 * order.blocks * order.width**2
    if (order.blocks == 1 and order.size > DENSE) or order.width > max(WIDEST, DENSE) or size > MEMORY:
        raise ModelError(
            f"The precision of the field cannot be factorised: neighbouring blocks of {order.width} of its "
            f"{order.size} latents depend on each other.",
            f"That would take {size / 1e9:.1f} GB for each value of the other latents.",
            "Write the field centred, each latent given its neighbours, so that its precision is sparse.",
        )


def on_chart(target: Target, saved: Mapping[str, np.ndarray]) -> Target:
    """The target that `FieldTarget.chart` has described."""
    names = str(saved["sites"]).split("\n")
    size = sum(site.size for site in target.structure.latents if site.name in names)
    if not applies(target) or size != len(saved["start"]):
        raise OptionError(
            "The field that the saved fit integrates out is not part of this model.",
            f"Field: {', '.join(names)}, {len(saved['start'])} latents.",
            "Attach the model and the data it was fitted with.",
        )
    found = over_field(target, names, int(saved["draws"]))
    return found.settled(np.asarray(saved["start"], found.model.start.dtype))
