"""Densities over R^D that keep their form under linear maps, Gaussian or not."""

import abc
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.errors import OptionError
from jensen._core import AbstractDensity, total
from jensen._families.full_rank import FullRank
from jensen._math.keys import split
from jensen._math.programs import Program

SAME = 1e-3
"""Relative difference of two computations of one log density from which on neither counts."""


class AbstractLocationScale(AbstractDensity):
    """A location-scale family over R^D: with u ~ q, shift + factor u has a density of the same family.

    `jn.advi(family=...)` takes such a class: it has its `start` at the full-rank Gaussian and is raised by path
    derivatives in coordinates in which that Gaussian is standard normal, which is what `linear` is for. A subclass
    says `dim`, `start`, `linear`, `draw` (reparameterised) and `log_prob`; its array fields are what is trained.

    Attributes:
        first_step: step size at first, in whitened coordinates.
        scaled_only: whether a linear map must be diagonal to stay in the family.
    """

    first_step: ClassVar[float] = 0.05
    scaled_only: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """D."""

    @abc.abstractmethod
    def linear(self, shift: np.ndarray, factor: np.ndarray) -> Self:
        """The density of shift + factor u, factor lower triangular."""

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> Self:
        """The density of shift + scale ∘ u."""
        return self.linear(shift, np.diag(scale))

    @classmethod
    def start(cls, q: FullRank, seed: int = 0) -> Self:
        """The member that a fit starts from, close to this Gaussian."""
        del q, seed
        raise OptionError(
            f"A {cls.__name__} cannot start from a Gaussian by itself.",
            f"Family: {cls.__name__}.",
            "Give the class a method start(q, seed) that returns its member close to the Gaussian q.",
        )

    def host_draws(self, count: int, seed: int) -> np.ndarray:
        """Points, (count, D)."""
        return reparameterised(self, count, seed)

    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q at points, (count,), in nats."""
        return np.asarray(jax.device_get(Program(_log_probs)(self, jnp.asarray(points))), float)

    def host_scored(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points, (count, D), and log q there in nats.

        Not a number where the density of a draw on its way out differs from that found on the way back: a flow that
        has become too steep for the working precision has no density that could be relied on.
        """
        found = Program(_scored)(self, split(jr.key(seed), count))
        points, out, back = (np.asarray(x, float) for x in jax.device_get(found))
        with np.errstate(invalid="ignore"):
            same = np.abs(out - back) < SAME * (1.0 + np.abs(out))
        return points, np.where(same, out, np.nan)


def reparameterised(q: AbstractDensity, count: int, seed: int) -> np.ndarray:
    """Points of q, (count, D), that are smooth in its parameters for a given seed."""
    return np.asarray(jax.device_get(Program(_points)(q, split(jr.key(seed), count))), float)


def _points(q: Any, keys: Any) -> Any:
    return jax.lax.map(lambda key: q.draw(key).value, keys, batch_size=256)


def _log_probs(q: Any, points: Any) -> Any:
    return jax.lax.map(q.log_prob, points, batch_size=256)


def _scored(q: Any, keys: Any) -> Any:
    def one(key: Any) -> Any:
        draw = q.draw(key)
        return draw.value, total(draw.log_prob), q.log_prob(draw.value)

    return jax.lax.map(one, keys, batch_size=256)
