"""Indices computed from discrete latents, at the ends of their ranges: probs[z + 1] lies outside at the last z."""

import itertools
from collections.abc import Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from numpyro.distributions import constraints

from jensen._errors import ModelError
from jensen.models.indices.judge import Outside, line_of
from jensen.models.indices.needed import encodes

SITES, ALL = 16, 3
"""Discrete latents that are moved, and how many up to which every combination of their ends is looked at."""

Choice: TypeAlias = tuple[str, int, int]
"""A discrete latent, its least and its largest value."""


def known_range(support: Any) -> tuple[int, int] | None:
    """The least and the largest value of a discrete support with fixed ends; `None` for others."""
    if not support.is_discrete:
        return None
    bounds = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    if any(bound is None or isinstance(bound, Tracer) or np.ndim(bound) for bound in bounds):
        return (0, 1) if isinstance(support, type(constraints.boolean)) else None
    low, high = (int(np.asarray(bound)) for bound in bounds)
    return low, high


def corners(choices: int) -> Iterator[np.ndarray]:
    """Which end each latent is at: all combinations for few; for more, all at one end and each alone at the other."""
    if not choices:
        return
    if choices <= ALL:
        rows = np.array(list(itertools.product((0, 1), repeat=choices)))
    else:
        alone = np.eye(choices, dtype=int)
        rows = np.concatenate([np.zeros((1, choices), int), np.ones((1, choices), int), alone, 1 - alone])
    for row in rows:
        yield np.concatenate([row, np.zeros(SITES - choices, int)])


def impossible(program: ClosedJaxpr, arguments: list[Any]) -> bool:
    """Whether the states have no probability: nothing is looked up there."""
    outputs = jax.device_get(jax.jit(jaxpr_as_fun(program))(*jax.tree.leaves(arguments)))
    return any(bool(np.isneginf(out).any()) for out in outputs if out.dtype.kind == "f")


def of_states(found: Outside, choices: tuple[Choice, ...], states: np.ndarray) -> ModelError | None:
    """The error for an entry beyond the axis, which JAX clamps; one counted from its end is what NumPy means too.

    A state that a one-hot encoding has no column for is the one that others are compared with.
    """
    if encodes(found.lookup.eqn):
        return None
    beyond = [int(v) for _, _, v in found.entries() if int(v) > found.limit or int(v) < -1 - found.limit]
    if not beyond:
        return None
    at = ", ".join(f"{name} = {high if up else low}" for (name, low, high), up in zip(choices, states, strict=False))
    return ModelError(
        f"The program looks up entry {beyond[0]} of an axis that has {found.limit + 1}, 0..{found.limit}, where {at}.",
        line_of(found.lookup.eqn) or "In the model.",
        "Give the axis an entry for every value, or leave out by jnp.where what lies outside.",
    )
