"""Indices computed from discrete latents, at the values of their ranges: probs[z + 1] lies outside at the last z."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from numpyro.distributions import constraints

from jensen._base.errors import ModelError
from jensen._program.indices.judge import Outside, line_of
from jensen._program.indices.needed import encodes

SITES, ALL, EACH = 16, 64, 17
"""Discrete latents that are moved; how many states up to which all are looked at; values of one latent at most."""

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


def states_of(choices: Sequence[Choice]) -> Iterator[np.ndarray]:
    """How far each latent is above its least value: all combinations where they are few.

    Where they are many, each latent takes its values in turn, the others being at their least or at their largest.
    """
    if not choices:
        return
    tops = np.array([high - low for _, low, high in choices])
    if np.prod(tops + 1.0) <= ALL:
        rows = np.array(list(itertools.product(*(range(top + 1) for top in tops))))
    else:
        turns = [
            (k, v) for k, top in enumerate(tops) for v in np.unique(np.linspace(0, top, min(top + 1, EACH)).round())
        ]
        rows = np.repeat([np.zeros_like(tops), tops], len(turns), axis=0)
        for row, (k, v) in zip(rows, turns * 2, strict=True):
            row[k] = v
        rows = np.unique(rows, axis=0)
    for row in rows:
        yield np.concatenate([row, np.zeros(SITES - len(choices), int)])


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
    at = ", ".join(f"{name} = {low + up}" for (name, low, _), up in zip(choices, states, strict=False))
    return ModelError(
        f"The program looks up entry {beyond[0]} of an axis that has {found.limit + 1}, 0..{found.limit}, where {at}.",
        line_of(found.lookup.eqn) or "In the model.",
        "Give the axis an entry for every value, or leave out by jnp.where what lies outside.",
    )
