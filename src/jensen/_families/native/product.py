"""A product of native factors over the sites of a model."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._base.typing import Array, Latent, PRNGKey, Scalar
from jensen._core import AbstractDensity, Draw, total
from jensen._core.family import stopped
from jensen._families.native.contract import AbstractFactor
from jensen._math.readout import readout


class Product(AbstractDensity):
    """q(z) = Π_j q_j(z_j), one factor for each site, each on the site's own support.

    A draw's terms are keyed by site, one entry for each row of the factor. Draws are reparameterised where the factor
    can be and `pathwise` asks for it, scored elsewhere; both kinds may come in one draw. `weights` says how often the
    rows of a factor count in log q where they stand for others in a minibatch; draws and scores are single rows'.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jensen._families.native import Bernoulli, Normal
        >>> q = Product({"w": Normal(jnp.zeros(3), jnp.zeros(3)), "z": Bernoulli(jnp.zeros(2))})
        >>> draw = q.draw(jax.random.key(0))
        >>> sorted(draw.log_score), draw.log_prob["w"].shape
        (['z'], (3,))
    """

    factors: dict[str, AbstractFactor]
    weights: tuple[tuple[str, float], ...] = eqx.field(static=True, default=())

    def weighed(self, name: str, log_prob: Array) -> Array:
        """A factor's log densities, each as often as its rows count."""
        weight = dict(self.weights).get(name, 1.0)
        return log_prob if weight == 1.0 else weight * log_prob

    def at(self, batch: Any) -> Self:
        """The factors of a batch's rows, each of which counts N / B times; see `jensen._model.subsample.RowBatch`."""
        if batch is None:
            return self
        axes = dict(batch.axes)
        factors = {
            name: jax.tree.map(lambda leaf, axis=axes[name]: jnp.take(leaf, batch.rows, axis=axis), factor)
            if name in axes
            else factor
            for name, factor in self.factors.items()
        }
        return type(self)(factors, tuple((name, batch.weight) for name in axes))

    def put(self, part: Self, batch: Any) -> Self:
        """The product with what `at(batch)` gave replaced by `part`."""
        if batch is None:
            return part
        axes = dict(batch.axes)

        def placed(name: str) -> AbstractFactor:
            if name not in axes:
                return part.factors[name]
            where = (slice(None),) * axes[name] + (batch.rows,)
            return jax.tree.map(lambda x, new: x.at[where].set(new), self.factors[name], part.factors[name])

        return type(self)({name: placed(name) for name in self.factors}, self.weights)

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """One draw of every site."""
        value = self.values(key, pathwise=pathwise)
        log_prob: dict[str, Array] = {}
        log_score: dict[str, Array] = {}
        log_exact: dict[str, Array] = {}
        for name, factor in self.factors.items():
            judge = factor if scored_by is None else scored_by.factors[name]
            log_prob[name] = self.weighed(name, judge.log_prob(value[name]))
            wanted = pathwise if isinstance(pathwise, bool) else name in pathwise
            if not (wanted and factor.reparameterised):
                log_score[name] = factor.log_prob(value[name])
                log_prob[name] = stopped(log_prob[name])
            known = factor.entropy() is not None
            log_exact[name] = log_prob[name] if known else jnp.zeros_like(log_prob[name])
        return Draw(value, log_prob, log_score, log_exact)

    def values(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True) -> Latent:
        """The values of one draw without their densities, by the same rules and the same keys as `draw`."""
        out: Latent = {}
        for name, own in zip(self.factors, jr.split(key, len(self.factors)), strict=True):
            wanted = pathwise if isinstance(pathwise, bool) else name in pathwise
            value = self.factors[name].sample(own)
            out[name] = value if wanted and self.factors[name].reparameterised else stopped(value)
        return out

    def reach(self, factor: str) -> tuple[str, ...]:
        """Its own term alone."""
        return (factor,)

    @property
    def reparameterised(self) -> bool:
        """Whether every factor is."""
        return all(factor.reparameterised for factor in self.factors.values())

    def log_prob(self, value: Latent) -> Scalar:
        """log q(z) in nats."""
        return total(self.log_probs(value))

    def log_probs(self, value: Latent) -> dict[str, Array]:
        """log q(z) by site and row, in nats."""
        return {name: self.weighed(name, factor.log_prob(value[name])) for name, factor in self.factors.items()}

    def exact_entropy(self) -> Scalar:
        """The entropy of the factors that have a closed form, in nats."""
        known = {name: factor.entropy() for name, factor in self.factors.items()}
        return total([self.weighed(name, entropy) for name, entropy in known.items() if entropy is not None])

    @readout
    def means(self) -> dict[str, Array]:
        """E[z] by site, in the precision that q is stored in."""
        return {name: factor.mean() for name, factor in self.factors.items()}

    @readout
    def variances(self) -> dict[str, Array]:
        """Var[z] by site, elementwise, in the precision that q is stored in."""
        return {name: factor.variance() for name, factor in self.factors.items()}

    def with_factor(self, name: str, factor: AbstractFactor) -> Self:
        """The same product with one factor replaced."""
        return eqx.tree_at(lambda q: q.factors[name], self, factor)
