"""A product of densities over blocks of the coordinates, each of a family of its own."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.errors import OptionError
from jensen._base.typing import Flat, PRNGKey, Scalar
from jensen._core import Draw, total
from jensen._core.family import stopped
from jensen._families.location_scale import AbstractLocationScale

Coordinates = tuple[tuple[int, ...], ...]


def _as_tuples(rows: Any) -> Coordinates:
    return tuple(tuple(int(i) for i in np.ravel(row)) for row in rows)


class Blocks(AbstractLocationScale):
    """q(u) = Π_b q_b(u_b): each block of coordinates has its own family, and the blocks are independent.

    A flow for the few coordinates that bend, a Gaussian for the many that do not. Each part must be reparameterised in
    full: a mixture is not (its component would be scored), and is taken over all coordinates instead.

    Attributes:
        scaled_only: whether a linear map must be diagonal to stay in the family.
        parts: densities over the blocks. coordinates: for each part the coordinates of u that it covers.

    Example:
        >>> import numpy as np
        >>> from jensen._families import FullRank, MeanField
        >>> parts = [FullRank.from_factor(np.zeros(2), np.eye(2)), MeanField(np.zeros(1), np.zeros(1))]
        >>> Blocks(parts, ((0, 2), (1,))).dim
        3
    """

    scaled_only: ClassVar[bool] = True
    parts: list[Any]
    coordinates: Coordinates = eqx.field(static=True, converter=_as_tuples)

    def __check_init__(self) -> None:
        named = sorted(i for block in self.coordinates for i in block)
        if named != list(range(len(named))) or len(self.parts) != len(self.coordinates):
            raise OptionError(
                "The blocks do not hold every coordinate exactly once.",
                f"Family: Blocks, coordinates {self.coordinates}.",
                "Name each coordinate in one block.",
            )
        for part in self.parts:
            if part.num_strata > 1:
                raise OptionError(
                    f"A {type(part).__name__} cannot be one block of several: its component would have to be scored.",
                    "Family: Blocks.",
                    "Use family='mixture' for all coordinates, or a flow for this block.",
                )

    @property
    def first_step(self) -> float:
        """The smallest that a part asks for."""
        return min((part.first_step for part in self.parts if isinstance(part, AbstractLocationScale)), default=0.05)

    @property
    def dim(self) -> int:
        """D."""
        return sum(len(block) for block in self.coordinates)

    def _order(self) -> np.ndarray:
        """Where coordinate i is among the blocks one after the other."""
        return np.argsort(np.concatenate([np.array(block, int) for block in self.coordinates]))

    def linear(self, shift: np.ndarray, factor: np.ndarray) -> "Blocks":
        """The product of shift + factor u, factor diagonal: nothing else leaves the blocks independent."""
        return self.affine(shift, np.diag(factor))

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> "Blocks":
        """The product of shift + scale ∘ u."""
        pairs = zip(self.parts, self.coordinates, strict=True)
        moved = [part.affine(np.asarray(shift)[list(c)], np.asarray(scale)[list(c)]) for part, c in pairs]
        return Blocks(moved, self.coordinates)

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """One draw of every block."""
        keys = jr.split(key, len(self.parts))
        judges = self.parts if scored_by is None else scored_by.parts
        found = [
            part.draw(own, pathwise=pathwise, scored_by=judge)
            for part, own, judge in zip(self.parts, keys, judges, strict=True)
        ]
        value = jnp.concatenate([one.value for one in found])[self._order()]
        log_prob, log_score, log_exact = (
            sum((total(getattr(one, name)) for one in found), start=jnp.zeros(()))
            for name in ("log_prob", "log_score", "log_exact")
        )
        return Draw(value, log_prob if pathwise else stopped(log_prob), log_score, log_exact)

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats."""
        pairs = zip(self.parts, self.coordinates, strict=True)
        return sum((part.log_prob(value[np.array(c, int)]) for part, c in pairs), start=jnp.zeros(()))

    def exact_entropy(self) -> Scalar:
        """The sum over the blocks."""
        return sum((part.exact_entropy() for part in self.parts), start=jnp.zeros(()))
