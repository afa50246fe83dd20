"""One learned parameter, and the improper prior that stands for "no prior at all"."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import biject_to, constraints

LEARNED = "learned_parameters"
"""The argument under which a closed program takes the values of its parameters."""


class Flat(dist.Distribution):
    """Density one (log density zero) on `support`, one event of the given shape: improper, so it is never drawn from.

    Example:
        >>> float(Flat(constraints.positive, (3,)).log_prob(jnp.ones(3)))
        0.0
    """

    def __init__(self, support: Any, shape: tuple[int, ...]):
        self._support = constraints.independent(support, len(shape) - support.event_dim)
        super().__init__(batch_shape=(), event_shape=tuple(shape), validate_args=False)

    @property
    def support(self) -> Any:
        """The constraint, over the whole array."""
        return self._support

    def log_prob(self, value: Any) -> Any:
        """Zero, in nats."""
        del value
        return jnp.zeros(())


@dataclass(frozen=True)
class Part:
    """The place of one array in a param site that holds a tree, such as a network's weights."""

    site: str
    tree: Any
    index: int


@dataclass(frozen=True, eq=False)
class Parameter:
    """What is learned.

    Attributes:
        name: the param site (with the array's path, where the site holds a tree), the argument of the model, or the
            latent site.
        kind: "param" (`numpyro.param`), "network" (one array of a param site that holds a tree), "argument" (an
            argument of the model) or "site" (a latent site whose posterior is replaced by a point; its prior stays in
            the objective).
        support: the constraint, `None` for a site, which has its own. initial: where the ascent starts, if it is given.
        part: where the array belongs, for a network.
    """

    name: str
    kind: str
    support: Any
    initial: np.ndarray | None
    part: Part | None = None

    @property
    def where(self) -> str:
        """For messages."""
        words = {"param": "Param site", "network": "Network", "argument": "Argument", "site": "Latent site"}
        return f"{words[self.kind]} '{self.name}'."


def param_sites(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Param site -> its value, trees put together from their arrays."""
    found: dict[str, Any] = {}
    trees: dict[str, tuple[Any, dict[int, Any]]] = {}
    for p in parameters:
        if p.kind == "param":
            found[p.name] = values[p.name]
        elif p.kind == "network":
            assert p.part is not None  # so it is made
            trees.setdefault(p.part.site, (p.part.tree, {}))[1][p.part.index] = values[p.name]
    for site, (tree, leaves) in trees.items():
        found[site] = jax.tree.unflatten(tree, [leaves[i] for i in range(len(leaves))])
    return found


def coordinates(support: Any, value: Any) -> Any:
    """The unconstrained point of a value."""
    return biject_to(support).inv(jnp.asarray(value))


def value_at(support: Any, point: Any) -> Any:
    """The value at an unconstrained point."""
    return biject_to(support)(point)
