"""Local latents with their own λ: the variational prior and r as products over the rows of a plate."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._typing import Array, Flat, PRNGKey, Scalar
from jensen.core import AbstractDensity, Draw
from jensen.families.full_rank import FullRank
from jensen.families.hierarchical.auxiliary import WHOLE, AbstractAuxiliary, Gaussian
from jensen.families.hierarchical.features import SHARES


def _pairs(parts: Any) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((int(axis), tuple(int(n) for n in np.ravel(shape))) for axis, shape in parts)


class RowLayout(eqx.Module):
    """Where the rows are in ψ, which lists λ site by site: for each site the axis of its rows and its other axes.

    Example:
        >>> import numpy as np
        >>> RowLayout([(0, (2,)), (0, ())]).split(np.arange(6.0)).tolist()  # two rows: of (2, 2) and of (2,)
        [[0.0, 1.0, 4.0], [2.0, 3.0, 5.0]]
    """

    sites: tuple[tuple[int, tuple[int, ...]], ...] = eqx.field(static=True, converter=_pairs)

    @property
    def width(self) -> int:
        """Entries of ψ in a row."""
        return sum(int(np.prod(shape, dtype=int)) for _, shape in self.sites)

    def split(self, point: Any) -> Any:
        """ψ as (rows, width)."""
        rows, start, parts = point.shape[0] // self.width, 0, []
        for axis, rest in self.sites:
            size = rows * int(np.prod(rest, dtype=int))
            whole = point[start : start + size].reshape((*rest[:axis], rows, *rest[axis:]))
            parts.append(jnp.moveaxis(whole, axis, 0).reshape(rows, -1))
            start += size
        return jnp.concatenate(parts, axis=1)

    def join(self, table: Array) -> Flat:
        """The inverse of `split`."""
        start, parts = 0, []
        for axis, rest in self.sites:
            size = int(np.prod(rest, dtype=int))
            own = table[:, start : start + size].reshape((table.shape[0], *rest))
            parts.append(jnp.reshape(jnp.moveaxis(own, 0, axis), -1))
            start += size
        return jnp.concatenate(parts)

    def gather(self, arrays: list[Array]) -> Array:
        """Arrays over the sites' λ, each with further axes behind, as (rows, ...)."""
        moved = [jnp.moveaxis(array, axis, 0) for array, (axis, _) in zip(arrays, self.sites, strict=True)]
        return jnp.concatenate([jnp.reshape(array, (array.shape[0], -1)) for array in moved], axis=1)


class RowPrior(AbstractDensity):
    """q(ψ) = Π_n N(ψ_n; m_n, L_n L_nᵀ): each row has parameters of its own.

    Attributes:
        each: a full-rank Gaussian whose leaves lead with the rows. layout: where the rows are in ψ.
        weight: how often each row counts in log q, where the rows stand for others in a minibatch.
    """

    each: FullRank
    layout: RowLayout
    weight: float = eqx.field(static=True, default=1.0)

    @classmethod
    def start(cls, rows: int, layout: RowLayout) -> "RowPrior":
        """Standard normal rows."""
        size = layout.width
        each = FullRank(jnp.zeros((rows, size)), jnp.zeros((rows, size)), jnp.zeros((rows, size, size)))
        return cls(each, layout)

    @property
    def dim(self) -> int:
        """D, over all rows."""
        return int(np.prod(self.each.loc.shape))

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """Every row, reparameterised."""
        del pathwise
        judges = self.each if scored_by is None else scored_by.each
        keys = jr.split(key, self.each.loc.shape[0])
        found = jax.vmap(lambda own, judge, k: own.draw(k, scored_by=judge))(self.each, judges, keys)
        log_prob = self.weight * jnp.sum(found.log_prob)
        return Draw(self.layout.join(found.value), log_prob, jnp.zeros(()), jnp.zeros(()))

    def by_row(self, value: Flat) -> Array:
        """log q of each row, (rows,), each counted once."""
        return jax.vmap(lambda own, row: own.log_prob(row))(self.each, self.layout.split(value))

    def log_prob(self, value: Flat) -> Scalar:
        """log q(ψ) in nats."""
        return self.weight * jnp.sum(self.by_row(value))

    def at(self, batch: Any) -> Self:
        """The rows of a batch."""
        if batch is None:
            return self
        return type(self)(_taken(self.each, batch), self.layout, batch.weight)

    def put(self, part: Self, batch: Any) -> Self:
        """With these rows replaced."""
        return part if batch is None else type(self)(_placed(self.each, part.each, batch), self.layout)


class RowGaussian(AbstractAuxiliary):
    """r(ψ | z) = Π_n r_n(ψ_n | z_n), each a `Gaussian` with parameters of its own, as the prior's rows have.

    Its one term is over the rows, so that a latent is credited with its own row alone.
    """

    local: ClassVar[bool] = False
    each: Gaussian
    layout: RowLayout
    weight: float = eqx.field(static=True, default=1.0)

    @classmethod
    def start(cls, rows: int, inputs: int, layout: RowLayout, seed: int, width: int = 16) -> "RowGaussian":
        """Standard normal rows; `inputs` features each."""
        parts = [Gaussian.start(layout.width, inputs, seed + row, width) for row in range(rows)]
        return cls(jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts), layout)

    @property
    def dim(self) -> int:
        """D, over all rows."""
        return int(np.prod(self.each.bias.shape))

    def _rows(self, found: dict[str, Array]) -> Array:
        return self.layout.gather([found[name] for name in sorted(found) if name != SHARES])

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term, over the rows."""

        def one(own: Gaussian, row: Array, seen: Array) -> Array:
            return own.log_probs(row, {"": seen}, prior)[WHOLE]

        return {WHOLE: self.weight * jax.vmap(one)(self.each, self.layout.split(point), self._rows(found))}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """Every row."""
        seen = self._rows(found)
        keys = jr.split(key, seen.shape[0])
        rows = jax.vmap(lambda own, k, x: own.draw(k, {"": x}, prior)[0])(self.each, keys, seen)
        return self.layout.join(rows), jnp.zeros(())

    def at(self, batch: Any) -> Self:
        """The rows of a batch."""
        if batch is None:
            return self
        return type(self)(_taken(self.each, batch), self.layout, batch.weight)

    def put(self, part: Self, batch: Any) -> Self:
        """With these rows replaced."""
        return part if batch is None else type(self)(_placed(self.each, part.each, batch), self.layout)


def _taken(each: Any, batch: Any) -> Any:
    return jax.tree.map(lambda x: jnp.take(x, batch.rows, axis=0), each)


def _placed(each: Any, part: Any, batch: Any) -> Any:
    return jax.tree.map(lambda x, new: x.at[batch.rows].set(new), each, part)
