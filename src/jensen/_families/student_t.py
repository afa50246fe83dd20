"""The multivariate Student-t: a Gaussian with heavier tails, their weight trained too."""

from typing import Self

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import digamma, gammaln

from jensen._base.typing import Array, Flat, Float, PRNGKey, Scalar, leaf
from jensen._core import Draw
from jensen._core.family import stopped
from jensen._families.full_rank import FullRank
from jensen._families.location_scale import AbstractLocationScale
from jensen._math.gamma_draws import log_gamma_draw


class StudentT(AbstractLocationScale):
    """q(u) = t_ν(u; m, LLᵀ), ν = 2 + exp(log_excess): u = m + L ε √(ν / 2g), ε ~ N(0, I), g ~ Gamma(ν / 2, 1).

    Draws are reparameterised in everything, g by implicit differentiation (Figurnov, Mohamed and Mnih 2018). With
    ν > 2 the covariance LLᵀ ν / (ν - 2) exists. The entropy is closed.

    Attributes:
        loc, log_diagonal, lower: m and L as in `FullRank`. log_excess: log(ν - 2), a scalar.

    Example:
        >>> import numpy as np
        >>> q = StudentT.around(FullRank.from_factor(np.zeros(2), np.eye(2)))
        >>> q.dim, round(float(q.df), 6)
        (2, 10.0)
    """

    loc: Flat
    log_diagonal: Flat
    lower: Float[Array, "dim dim"]
    log_excess: Scalar

    @classmethod
    def start(cls, q: FullRank, seed: int = 0) -> Self:
        """Around the Gaussian, with ten degrees of freedom."""
        del seed
        return cls.around(q)

    @classmethod
    def around(cls, q: FullRank, df: float = 10.0) -> Self:
        """With a Gaussian's mean and covariance."""
        shrink = 0.5 * np.log((df - 2.0) / df)
        loc, log_diagonal, lower = (np.asarray(x, float) for x in (q.loc, q.log_diagonal, q.lower))
        parts = (loc, log_diagonal + shrink, lower * np.exp(shrink), np.log(df - 2.0))
        return cls(*(jnp.asarray(part) for part in parts))

    @property
    def dim(self) -> int:
        """D."""
        return self.loc.shape[-1]

    @property
    def df(self) -> Scalar:
        """ν."""
        return 2.0 + jnp.exp(self.log_excess)

    def gaussian(self) -> FullRank:
        """N(m, LLᵀ)."""
        return FullRank(self.loc, self.log_diagonal, self.lower)

    def linear(self, shift: np.ndarray, factor: np.ndarray) -> "StudentT":
        """The family's member of shift + factor u, factor lower triangular."""
        own = FullRank(*(leaf(np.asarray(x, float)) for x in (self.loc, self.log_diagonal, self.lower)))
        moved = own.linear(shift, factor)
        parts = (moved.loc, moved.log_diagonal, moved.lower, self.log_excess)
        return StudentT(*(jnp.asarray(part) for part in parts))

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """m + L ε √(ν / 2g)."""
        first, second = jr.split(key)
        df = self.df
        log_gamma = log_gamma_draw(second, 0.5 * df)
        stretch = jnp.exp(0.5 * (jnp.log(0.5 * df) - log_gamma))
        value = self.gaussian().transform(stretch * jr.normal(first, (self.dim,), self.loc.dtype))
        if not pathwise:
            value = stopped(value)
            log_prob = self.log_prob(value)
            judged = log_prob if scored_by is None else scored_by.log_prob(value)
            return Draw(value, stopped(judged), log_prob, stopped(judged))
        log_prob = (self if scored_by is None else scored_by).log_prob(value)
        return Draw(value, log_prob, jnp.zeros_like(log_prob), log_prob)

    def log_prob(self, value: Flat) -> Scalar:
        """log q(u) in nats."""
        df, dim = self.df, self.dim
        square = jnp.sum(self.gaussian().whiten(value) ** 2)
        constant = gammaln(0.5 * (df + dim)) - gammaln(0.5 * df) - 0.5 * dim * jnp.log(df * jnp.pi)
        return constant - jnp.sum(self.log_diagonal) - 0.5 * (df + dim) * jnp.log1p(square / df)

    def entropy(self) -> Scalar:
        """H[q] in nats."""
        df, dim = self.df, self.dim
        half = 0.5 * (df + dim)
        constant = gammaln(half) - gammaln(0.5 * df) - 0.5 * dim * jnp.log(df * jnp.pi)
        return half * (digamma(half) - digamma(0.5 * df)) - constant + jnp.sum(self.log_diagonal)

    def exact_entropy(self) -> Scalar:
        """The whole of log q has the closed-form mean -H[q]."""
        return self.entropy()
