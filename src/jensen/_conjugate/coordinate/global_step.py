"""The step of the global blocks from the statistics of some rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jensen._conjugate.algebra import Moments, Naturals
from jensen._conjugate.coordinate.push import drawn
from jensen._conjugate.coordinate.shape import Shape, at_values, paired
from jensen._math.programs import Program

ENTRIES = 10_000
"""Parameters of the global blocks beyond which their program is worth optimising."""


def update_program(first: Shape, order: tuple[str, ...], shapes: tuple[Shape, ...], parameters: int) -> Program:
    """The compiled step for statistics of pieces of these shapes; `first` holds the sites outside the plate."""
    key = ("update", order, shapes)
    if key not in first.updates:
        first.updates[key] = Program(partial(_update, first, order, shapes), parameters > ENTRIES)
    return first.updates[key]


def moments_program(first: Shape, order: tuple[str, ...]) -> Program:
    """From natural parameters to (moments, whether each block is in its domain)."""
    key = ("moments", order)
    if key not in first.updates:
        first.updates[key] = Program(partial(_moments, first, order))
    return first.updates[key]


def outer_program(first: Shape) -> Program:
    """log density of the sites outside the plate at several points of the globals."""
    if "outer" not in first.updates:

        def at(points: Any, arrays: Any) -> Any:
            return jax.lax.map(lambda v: first.parts.outer_energy(at_values(first.model, v), arrays), points)

        first.updates["outer"] = Program(at)
    return first.updates["outer"]


def push_program(first: Shape, order: tuple[str, ...]) -> Program:
    """The compiled `drawn` of the global blocks."""
    if "push" not in first.updates:
        first.updates["push"] = Program(partial(drawn, first.model, order))
    return first.updates["push"]


def _update(
    first: Shape,
    order: tuple[str, ...],
    shapes: tuple[Shape, ...],
    moments: Moments,
    naturals: Naturals,
    values: Any,
    rows: Any,
    rate: Any,
    known: Any,
    arrays: Any,
) -> Any:
    def shares(at: Moments) -> Any:
        """What the sites of the plate say, row terms by their statistics."""
        total = jnp.zeros(())
        for shape, (statistics, share), own in zip(shapes, values, known, strict=True):
            total = total + paired(statistics, shape.parts.interface(at, own))
            total = total + share * shape.parts.flat_energy(at, own)
        return total

    def energy(at: Moments) -> Any:
        return shares(at) + first.parts.outer_energy(at, arrays)

    entropy = sum(first.model.factor(n, naturals[n]).entropy() for n in order)
    flat = sum(
        share * shape.parts.flat_energy(moments, own)
        for shape, (_, share), own in zip(shapes, values, known, strict=True)
    )
    before = rows + flat + first.parts.outer_energy(moments, arrays) + entropy
    inside, moved = [], jnp.zeros(())
    for name in order:
        message = jax.grad(partial(_at, energy, moments, name))(moments[name])
        natural = jax.tree.map(lambda old, new: old + rate * (new - old), naturals[name], message)
        factor = first.model.factor(name, natural)
        inside.append(jnp.all(factor.contains()))
        mean = factor.mean_params()
        moved = moved + distance(naturals[name], moments[name], natural, mean)
        moments, naturals = {**moments, name: mean}, {**naturals, name: natural}
    return moments, naturals, before, moved, jnp.stack(inside)


def _moments(first: Shape, order: tuple[str, ...], naturals: Naturals) -> tuple[Moments, Any]:
    factors = {name: first.model.factor(name, naturals[name]) for name in order}
    inside = jnp.stack([jnp.all(factor.contains()) for factor in factors.values()])
    return {name: factor.mean_params() for name, factor in factors.items()}, inside


def _at(energy: Callable[[Moments], Any], moments: Moments, name: str, own: Any) -> Any:
    return energy({**moments, name: own})


def distance(natural: Any, mean: Any, other_natural: Any, other_mean: Any) -> Any:
    """⟨η' - η, μ' - μ⟩ = KL(q ‖ q') + KL(q' ‖ q), in nats."""
    products = jax.tree.map(
        lambda n, m, other_n, other_m: jnp.sum((other_n - n) * (other_m - m)), natural, mean, other_natural, other_mean
    )
    return sum(jax.tree.leaves(products), start=jnp.zeros(()))
