"""What a draw's choices are held to account for: the whole log weight, or the terms that depend on them."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, LogWeights
from jensen._core import AbstractFamily
from jensen._estimators.by_row import to_rows
from jensen._program.dependence import NONE, Links

Stacked = dict[str, Array]
"""Term or factor name -> array that leads with the draws."""


class AbstractCredit(eqx.Module):
    """Log weights for the choices of one factor, one for each row: what their score is multiplied with.

    `linear_only` says that it is right only for bounds that are linear in the log weights.
    """

    linear_only: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def __call__(
        self, q: AbstractFamily, factor: str, shape: tuple[int, ...], terms: Stacked, log_prob: Any, whole: LogWeights
    ) -> Array:
        """(draws, *shape): log p - log q as the rows of this factor see it. `whole` are the full log weights."""


class Whole(AbstractCredit):
    """Every choice answers for the whole log weight: log p(x, z) - log q(z)."""

    linear_only: ClassVar[bool] = False

    def __call__(
        self, q: AbstractFamily, factor: str, shape: tuple[int, ...], terms: Stacked, log_prob: Any, whole: LogWeights
    ) -> Array:
        """The same for every row."""
        del q, factor, terms, log_prob
        return jnp.broadcast_to(whole.reshape(whole.shape + (1,) * len(shape)), whole.shape + shape)


class Blanket(AbstractCredit):
    """Every row answers for the entries of the log joint that depend on it, and for its own log q.

    The entries left out do not depend on the row, so their product with its score has mean zero: Rao-Blackwellisation
    over the Markov blanket (Ranganath, Gerrish and Blei 2014, equation 6), row by row, from the traced program itself.
    What is left out may be strongly correlated with what is kept, so this can also raise the variance; see
    `Regression`, which gives the omitted part back as a control.
    """

    linear_only: ClassVar[bool] = True
    links: Links = eqx.field(static=True)

    def __call__(
        self, q: AbstractFamily, factor: str, shape: tuple[int, ...], terms: Stacked, log_prob: Any, whole: LogWeights
    ) -> Array:
        """Sums over the blanket of each row."""
        draws = whole.shape[0]
        out = jnp.zeros((draws, *shape), whole.dtype)
        sites = q.touched(factor)
        if sites == (factor,):
            for name in self.links.touching(factor):
                if factor not in self.links.split:
                    out = out + by_blocks(terms[name], self.links, name, factor)
                    continue
                for members, index in self.links.layers(name, factor):
                    out = out + to_rows(terms[name], index, members)
        else:
            for name in dict.fromkeys(name for site in sites for name in self.links.touching(site)):
                out = out + _summed(terms[name], shape)
        for name in q.reach(factor) or tuple(log_prob):
            own = log_prob[name]
            out = out - (own if own.shape[1:] == shape else _summed(own, shape))
        return out


def _summed(values: Array, shape: tuple[int, ...]) -> Array:
    """(draws, *anything) summed over all but the draws, as (draws, 1, ..., 1)."""
    draws = values.shape[0]
    return jnp.sum(values.reshape(draws, -1), axis=1).reshape((draws,) + (1,) * len(shape))


def by_blocks(values: Array, links: Links, term: str, site: str) -> Array:
    """Sums of a term's entries, (draws, *term), over each row (draws, *rows) of a site that they depend on.

    An entry that depends on several rows counts for the rows of the smallest block that holds them all.
    """
    shape, draws = links.shapes[site], values.shape[0]
    flat, index = values.reshape(draws, -1), links.rows[term][site].reshape(-1)
    if np.array_equal(index, np.arange(int(np.prod(shape, dtype=int)))):
        return flat.reshape(draws, *shape)
    out, left = jnp.zeros((draws, *shape), values.dtype), index != NONE
    for axes in links.by_size(site):
        block = links.by_block(term, site, axes).reshape(-1)
        where = np.flatnonzero(left & (block >= 0))
        left = left & (block < 0)
        if len(where):
            kept = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
            sums = _by_block(flat[:, where], jnp.asarray(block[where]), int(np.prod(kept, dtype=int)))
            out = out + sums.reshape(draws, *kept)
    return out


def _by_block(values: Array, blocks: Array, count: int) -> Array:
    """(draws, count): sums of the columns of each block."""
    if count == 1:
        return jnp.sum(values, axis=1, keepdims=True)
    return jax.vmap(lambda v: jax.ops.segment_sum(v, blocks, count))(values)
