"""Which latents are a field, and the density of θ with it integrated out."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jensen._base.errors import ModelError, OptionError, nearest
from jensen._base.typing import leaf
from jensen._math.precision import Precision, float_type, working
from jensen._model import Target
from jensen._model.reduced_density import computed, without
from jensen._nested.curvature import products
from jensen._nested.field import FieldModel
from jensen._nested.field_target import GENERIC, FieldTarget, generic, not_concave
from jensen._nested.order import Order
from jensen._nested.probing import Probe, affine, structured
from jensen._nested.states import States, states_of
from jensen._nested.unsummed import Unsummed
from jensen._program.bijection import SiteBijection, on_the_line
from jensen._program.structure import Structure

SMALLEST, REST = 8, 60
"""Latents of one site that may be part of a field; others that may be left."""
DENSE, WIDEST, MEMORY = 2200, 1200, 4e9
"""Latents up to which the precision may be dense; places in a block, and bytes for all blocks, at most."""
DRAWS, PARTS = (32, 16, 8), 32
"""Draws, which are mirrored, of what the Gaussian misses: where it is told for all latents together, in parts, and in
this many parts or more, whose errors even out. More are made where the error turns out to matter."""
POINTS = 2
"""Generic points at which the curvature is looked at."""
SCREENED, ROUNDED = 200, 1e-6
"""Latents up to which the curvature is looked at before anything is compiled, and what differences leave of it."""
LOOKS, FEWEST, SECONDS, WAY, NEAR = 16, 4, 0.5, 12, 1e-3
"""From how many values of the other latents, at least, and for how many seconds; on how many Newton steps; the
predicted rise in nats near the mode."""


def applies(target: Target) -> bool:
    """Whether the model is a program whose latents have coordinates of their own and are not drawn in batches."""
    model = target.model
    if model.handled is None or not isinstance(model.bijection, SiteBijection):
        return False
    return model.handled.discrete is None and target.subsample is None


def candidates(target: Target, fewest: int = SMALLEST) -> tuple[str, ...]:
    """Sites of so many latents on the real line; none for a model that has no fields."""
    if not applies(target):
        return ()
    return tuple(s.name for s in target.structure.latents if s.size >= fewest and on_the_line(s.support))


def bent(target: Target, names: tuple[str, ...]) -> str:
    """Where the log density of these sites is not concave on the way to its mode, a sentence; else nothing.

    Newton's method from zero, as `laplace.mode` goes, at generic values of the other latents. It takes gradients of the
    whole density only, which a fit without the field needs too, where a field's own programs take seconds to compile.
    """
    own = np.concatenate([np.arange(w.start, w.stop) for site, w in target.structure.slices() if site.name in names])
    if len(own) > SCREENED or target.second_order:
        return ""
    each = target.price.seconds(WAY * len(own))
    looks = int(np.clip(SECONDS / each, FEWEST, LOOKS))
    points = np.zeros((looks, target.dim))
    points[:, np.delete(np.arange(target.dim), own)] = generic(0, LOOKS, target.dim - len(own))[:looks]
    return not_concave(names) if any(_damped(target, point, own) for point in points) else ""


def quadratic(target: Target, names: tuple[str, ...]) -> bool:
    """Whether the log density is quadratic in these sites, by gradients of the whole density."""
    own = np.concatenate([np.arange(w.start, w.stop) for site, w in target.structure.slices() if site.name in names])
    base = np.random.default_rng(3).normal(0.0, GENERIC, (POINTS, target.dim))
    return affine(lambda point: target.value_and_grad(point[None])[1][0], base, own, target.eps)


def _damped(target: Target, point: np.ndarray, own: np.ndarray) -> bool:
    """Whether a few Newton steps of some coordinates meet curvature of the wrong sign."""
    some, length = np.eye(target.dim)[:, own], 1.0
    values, slopes = target.value_and_grad(point[None])
    for _ in range(WAY):
        if not (np.isfinite(values[0]) and np.isfinite(slopes).all()):
            return False
        curvature = target.whitened_curvature(point, some)
        eigenvalues = np.linalg.eigvalsh(np.nan_to_num(curvature))
        if eigenvalues[0] < -ROUNDED * np.abs(eigenvalues).max():
            return True
        move = some @ np.linalg.lstsq(curvature, slopes[0, own])[0]
        if slopes[0] @ move < NEAR:
            return False
        trial = target.value_and_grad(point[None] + length * move)
        rising = trial[0][0] >= values[0]
        point, (values, slopes) = (point + length * move, trial) if rising else (point, (values, slopes))
        length = min(1.0, 4.0 * length) if rising else 0.25 * length
    return False


def over_field(target: Target, names: Iterable[str], draws: int | None = None) -> FieldTarget:
    """The density of all other latents, with these integrated out by `draws` mirrored draws, or as many as suit it."""
    if not applies(target):
        raise ModelError(
            "Only latents of a NumPyro program can be a field, all of them continuous or all data in one batch.",
            "Option: field.",
            "Write the model in NumPyro, without discrete latents, or use method='auto'.",
        )
    names = check(target, names)
    base, structure = target.model.handled, target.structure
    assert isinstance(base.bijection, SiteBijection)
    parts = {site.name: np.arange(where.start, where.stop) for site, where in structure.slices()}
    own = np.concatenate([parts[name] for name in names])
    rest = [where for name, where in parts.items() if name not in names]
    where = np.concatenate([own, *rest])
    dtype = float_type(target.precision)
    reduced = without(structure, names)
    inner = Structure({name: structure.sites[name] for name in names}, {})
    model = FieldModel(
        base=base,
        bijection=SiteBijection(reduced, {k: v for k, v in base.bijection.bounds.items() if k not in names}),
        chart=SiteBijection(inner, {}),
        sites=names,
        where=where,
        order=Order.dense(0),
        start=leaf(np.zeros(len(own), dtype)),
        noise=leaf(np.zeros((len(own), 0), dtype)),
        computed=computed(target, names),
    )
    bounds = np.cumsum([0, *(len(parts[name]) for name in names)])
    order, states = ordered(model, bounds, target.precision)
    draws = draws or DRAWS[(order.parts > 1) + (order.parts >= PARTS)]
    drawn = np.random.default_rng([0, 83]).normal(size=(len(own), draws)).astype(dtype)
    model = dataclasses.replace(model, order=order, noise=leaf(drawn), states=states)
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


def ordered(model: FieldModel, bounds: np.ndarray, precision: Precision) -> tuple[Order, States | None]:
    """The algebra of the field's precision, as its structure has it; `bounds`: where its sites begin, and D.

    Where it has none, that of the states that the field makes, if it makes any.
    """
    rng, size = np.random.default_rng(0), len(model.start)
    points = rng.normal(0.0, 0.7, (POINTS, len(model.where))).astype(model.start.dtype)

    def given(model: FieldModel, point: jax.Array) -> tuple[Any, jax.Array]:
        return lambda z: model.joint(point[size:], z), point[:size]

    with working(precision):
        probe, states = Probe(given, model, points), None
        found = structured(probe, bounds)
        # what is banded only since an autoregression decays at these points is wide at others
        if found is None or found[0].wide != ():
            states = states_of(probe.program, model, points[0], size)
        if states is not None:
            probe = Probe(given, model, points, states)
            found = structured(probe, bounds)
        order = _dense(size) if found is None else Order(*found)
        _affordable(order)
        same, quadratic = _confirmed(probe, order, 0.5 * points[0] + 0.1)
        if not same:
            order = _dense(size)
    order = dataclasses.replace(order, quadratic=quadratic, work=probe.work)
    return jax.tree.map(lambda x: leaf(x) if isinstance(x, np.ndarray) else x, order), states


def _dense(size: int) -> Order:
    """One block of all latents, if it would fit."""
    if size > DENSE:
        raise _too_dense(size, size, 6.0 * 8.0 * size**2)
    return Order.dense(size)


def _confirmed(probe: Probe, order: Order, point: np.ndarray) -> tuple[bool, bool]:
    """Whether the entries say what a product with a random direction says; whether another field has the same."""
    rng = np.random.default_rng(1)
    direction, move = rng.normal(size=(2, order.size)).astype(point.dtype)

    def told(density: Unsummed, z: jax.Array, order: Order, direction: jax.Array, move: jax.Array) -> Any:
        entries = order.product(order.precision(density, z), direction[:, None])[:, 0]
        return entries, *(-products(density, at, None, direction[None])[0] for at in (z, z + move))

    found = jax.device_get(probe.program(told)(probe.model, point, order, direction, move))
    entries, here, there = (np.asarray(one, float) for one in found)
    size = np.abs(here).max() + 1e-300
    return bool(np.abs(entries - here).max() <= 1e-6 * size), bool(np.abs(there - here).max() <= 1e-9 * size)


def _affordable(order: Order) -> None:
    """Raise before anything is tried that would not fit."""
    line = order.elimination.line
    size = 6.0 * line.bytes
    if (line.blocks == 1 and line.width > DENSE) or line.width > max(WIDEST, DENSE) or size > MEMORY:
        raise _too_dense(line.width, order.size, size)


def _too_dense(width: int, size: int, memory: float) -> ModelError:
    return ModelError(
        f"The precision of the field cannot be factorised: neighbouring blocks of {width} of its "
        f"{size} latents depend on each other.",
        f"That would take {memory / 1e9:.1f} GB for each value of the other latents.",
        "Write the field centred, each latent given its neighbours, so that its precision is sparse.",
    )


def on_chart(target: Target, saved: Mapping[str, np.ndarray]) -> FieldTarget:
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
