"""One learned parameter, and the improper prior that stands for "no prior at all"."""

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, eq=False)
class Parameter:
    """What is learned.

    Attributes:
        name: the param site, the argument of the model, or the latent site.
        kind: "param" (`numpyro.param`), "argument" (an argument of the model) or "site" (a latent site whose posterior
            is replaced by a point; its prior stays in the objective).
        support: the constraint, `None` for a site, which has its own. initial: where the ascent starts, if it is given.
    """

    name: str
    kind: str
    support: Any
    initial: np.ndarray | None

    @property
    def where(self) -> str:
        """For messages."""
        return {"param": "Param site", "argument": "Argument", "site": "Latent site"}[self.kind] + f" '{self.name}'."


def coordinates(support: Any, value: Any) -> Any:
    """The unconstrained point of a value."""
    return biject_to(support).inv(jnp.asarray(value))


def value_at(support: Any, point: Any) -> Any:
    """The value at an unconstrained point."""
    return biject_to(support)(point)
