"""Local latents with their own λ: the variational prior as a product over the rows of a plate."""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.typing import Array, Flat, PRNGKey, Scalar
from jensen._core import AbstractDensity, Draw
from jensen._families import FullRank
from jensen._hierarchical.family.features import Network
from jensen._hierarchical.family.layout import RowLayout


class RowsOf(eqx.Module):
    """Some rows, each counting once: their indices and the axis of each site that they lie along."""

    rows: Array
    axes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    weight: ClassVar[float] = 1.0


class AbstractRows(eqx.Module):
    """What has a row for each row of a plate.

    Attributes:
        layout: where the rows are in ψ. weight: how often each row counts, where rows stand for others in a minibatch.
    """

    layout: eqx.AbstractVar[RowLayout]
    weight: eqx.AbstractVar[float]

    @abc.abstractmethod
    def own(self) -> Any:
        """The arrays that lead with the rows, as a tree."""

    @abc.abstractmethod
    def with_own(self, own: Any, weight: float) -> Self:
        """With these in their place."""

    def at(self, batch: Any) -> Self:
        """The rows of a batch."""
        if batch is None:
            return self
        return self.with_own(jax.tree.map(lambda x: jnp.take(x, batch.rows, axis=0), self.own()), batch.weight)

    def put(self, part: Self, batch: Any) -> Self:
        """With these rows replaced, and what rows share."""
        if batch is None:
            return part
        placed = jax.tree.map(lambda x, new: x.at[batch.rows].set(new), self.own(), part.own())
        return part.with_own(placed, self.weight)


class AbstractRowPrior(AbstractRows, AbstractDensity):
    """q(ψ) = Π_n N(ψ_n; m_n, L_n L_nᵀ)."""

    @abc.abstractmethod
    def gaussians(self) -> FullRank:
        """Full-rank Gaussians, whose leaves lead with the rows."""

    @property
    def loc(self) -> Flat:
        """The mean of ψ."""
        return self.layout.join(self.gaussians().loc)

    @property
    def dim(self) -> int:
        """D, over all rows."""
        return self.num_rows * self.layout.width

    @property
    @abc.abstractmethod
    def num_rows(self) -> int:
        """N, or the rows of a batch."""

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """Every row, reparameterised."""
        del pathwise
        each = self.gaussians()
        judges = each if scored_by is None else scored_by.gaussians()
        keys = jr.split(key, self.num_rows)
        found = jax.vmap(lambda own, judge, k: own.draw(k, scored_by=judge))(each, judges, keys)
        log_prob = self.weight * jnp.sum(found.log_prob)
        return Draw(self.layout.join(found.value), log_prob, jnp.zeros(()), jnp.zeros(()))

    def by_row(self, value: Flat) -> Array:
        """log q of each row, (rows,), each counted once."""
        return jax.vmap(lambda own, row: own.log_prob(row))(self.gaussians(), self.layout.split(value))

    def log_prob(self, value: Flat) -> Scalar:
        """log q(ψ) in nats."""
        return self.weight * jnp.sum(self.by_row(value))


class RowPrior(AbstractRowPrior):
    """Each row has parameters of its own.

    Attributes:
        each: Gaussians, whose leaves lead with the rows.
    """

    each: FullRank
    layout: RowLayout
    weight: float = eqx.field(static=True, default=1.0)

    @classmethod
    def start(cls, rows: int, layout: RowLayout, width: float = 1.0) -> "RowPrior":
        """Independent entries of mean 0 and this sd."""
        size = layout.width
        wide = jnp.full((rows, size), np.log(width))
        return cls(FullRank(jnp.zeros((rows, size)), wide, jnp.zeros((rows, size, size))), layout)  # type: ignore[call-arg]

    def gaussians(self) -> FullRank:
        """As they are."""
        return self.each

    @property
    def num_rows(self) -> int:
        """N."""
        return self.each.loc.shape[0]

    def own(self) -> FullRank:
        """The Gaussians."""
        return self.each

    def with_own(self, own: Any, weight: float) -> Self:
        """Other Gaussians."""
        return dataclasses.replace(self, each=own, weight=weight)


class EncodedPrior(AbstractRowPrior):
    """(m_n, L_n) = b + V x_n + net(x_n): amortised, what rows share is all there is to learn.

    Attributes:
        inputs: x, (rows, F), from the data of each row; not trained. bias, linear, network: the outputs are m, then
            log diag L, then the entries of L, of which the strict lower triangle is used.
    """

    inputs: Array
    bias: Array
    linear: Array
    network: dict[str, Array]
    layout: RowLayout
    weight: float = eqx.field(static=True, default=1.0)

    @classmethod
    def start(cls, inputs: Array, layout: RowLayout, width: float, seed: int, hidden: int = 32) -> "EncodedPrior":
        """Independent entries of mean 0 and this sd, whatever the row."""
        size, count = layout.width, np.shape(inputs)[1]
        outputs = size * (2 + size)
        bias = jnp.zeros(outputs).at[size : 2 * size].set(np.log(width))
        network = Network.start(np.random.default_rng(seed), count, hidden, outputs)
        return cls(jnp.asarray(inputs), bias, jnp.zeros((outputs, count)), network, layout)  # type: ignore[call-arg]

    def gaussians(self) -> FullRank:
        """One pass of the network for each row."""
        size = self.layout.width

        def one(x: Array) -> FullRank:
            out = self.bias + self.linear @ x + Network.at(self.network, x)
            return FullRank(out[:size], out[size : 2 * size], out[2 * size :].reshape(size, size))

        return jax.vmap(one)(jax.lax.stop_gradient(self.inputs))

    @property
    def num_rows(self) -> int:
        """N."""
        return self.inputs.shape[0]

    def own(self) -> Array:
        """The inputs."""
        return self.inputs

    def with_own(self, own: Any, weight: float) -> Self:
        """The same network at other rows."""
        return dataclasses.replace(self, inputs=own, weight=weight)
