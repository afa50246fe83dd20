"""Mixtures of densities whose components are summed out by stratified draws."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.special import logsumexp

from jensen._base.errors import OptionError
from jensen._base.typing import Array, Flat, PRNGKey, Scalar, leaf
from jensen._core import AbstractDensity, Draw
from jensen._core.family import stopped
from jensen._families.full_rank import FullRank
from jensen._families.gaussian import AbstractGaussian
from jensen._families.location_scale import AbstractLocationScale

COMPONENT = "component"
"""The name under which a mixture scores the choice of its component."""


class Mixture(AbstractLocationScale):
    """q(u) = Σ_k π_k q_k(u), π = softmax(logits), with K Gaussian components of one kind.

    A draw of the whole mixture scores its component, which is noisy; `jensen._estimators.Stratified` draws from every
    component instead and weighs by π_k, so that the component is summed out exactly and everything is a smooth
    function of the parameters (Roeder, Wu and Duvenaud 2017, section 4; Morningstar et al. 2021). Cost: K times the
    draws, and K densities for each of them.

    Attributes:
        logits: (K,). components: a Gaussian whose leaves lead with K.

    Example:
        >>> import jax.numpy as jnp
        >>> from jensen._families import MeanField
        >>> q = Mixture(jnp.zeros(2), MeanField(jnp.array([[-2.0], [2.0]]), jnp.zeros((2, 1))))
        >>> q.dim, q.num_strata
        (1, 2)
    """

    logits: Array
    components: AbstractGaussian

    def __check_init__(self) -> None:
        if np.ndim(self.logits) == 1 and np.shape(self.logits)[0] < 2:
            raise OptionError(
                "A mixture of one component is that component.",
                f"Family: Mixture of {type(self.components).__name__}.",
                "Take at least two components, or the Gaussian itself.",
            )

    @classmethod
    def around(cls, q: AbstractGaussian, count: int, seed: int, spread: float = 1.0) -> "Mixture":
        """`count` full-rank components of q's shape, their means drawn from q with its scales times `spread`."""
        rng = np.random.default_rng(seed)
        factor = q.factor()
        means = np.asarray(q.loc, float) + spread * rng.normal(size=(count, q.dim)) @ factor.T
        return cls.of([FullRank.from_factor(mean, factor) for mean in means])

    @classmethod
    def of(cls, parts: list[Any], logits: np.ndarray | None = None) -> "Mixture":
        """These Gaussians of one kind, equally likely unless `logits` says otherwise."""
        components = jax.tree.map(lambda *leaves: leaf(np.stack([np.asarray(x) for x in leaves])), *parts)
        return cls(leaf(np.zeros(len(parts)) if logits is None else np.asarray(logits, float)), components)

    @property
    def dim(self) -> int:
        """D."""
        return self.components.loc.shape[-1]

    @property
    def num_strata(self) -> int:
        """K."""
        return self.logits.shape[0]

    @property
    def log_shares(self) -> Array:
        """log π, (K,)."""
        return jax.nn.log_softmax(self.logits)

    def component(self, index: Any) -> AbstractGaussian:
        """One component."""
        return jax.tree.map(lambda x: jnp.asarray(x)[index], self.components)

    def linear(self, shift: np.ndarray, factor: np.ndarray) -> "Mixture":
        """The mixture of shift + factor u, factor lower triangular; its components must be full-rank Gaussians."""
        moved = Mixture.of([part.linear(shift, factor) for part in self.parts], np.asarray(self.logits))
        return jax.tree.map(jnp.asarray, moved)

    @property
    def parts(self) -> list[Any]:
        """The components, their arrays on the host."""
        return [jax.tree.map(lambda x, k=k: np.asarray(x)[k], self.components) for k in range(self.num_strata)]

    def host_draws(self, count: int, seed: int) -> np.ndarray:
        """Points, (count, D), without compiling anything."""
        rng = np.random.default_rng([seed, 61])
        shares = np.exp(np.asarray(jax.device_get(self.logits), float) - np.max(np.asarray(self.logits)))
        which = rng.choice(self.num_strata, p=shares / shares.sum(), size=count)
        noise = rng.normal(size=(count, self.dim))
        points = np.empty((count, self.dim))
        for k, part in enumerate(self.parts):
            points[which == k] = part.host_transform(noise[which == k])
        return points

    def host_log_prob(self, points: np.ndarray) -> np.ndarray:
        """log q at points, (count,), in nats."""
        logits = np.asarray(self.logits, float)
        own = np.stack([part.host_log_prob(np.asarray(points, float)) for part in self.parts], axis=1) + logits
        return np.asarray(logsumexp(own, axis=1)) - np.asarray(logsumexp(logits))

    def host_scored(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points and log q there, in nats."""
        points = self.host_draws(count, seed)
        return points, self.host_log_prob(points)

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """A component at random, and a point of it that is reparameterised where asked."""
        first, second = jr.split(key)
        index = jr.categorical(first, stopped(self.log_shares))
        found = self.draw_from(second, index, pathwise=pathwise, scored_by=scored_by)
        if not pathwise:
            return found._replace(log_score=self.log_prob(found.value))
        score = self.log_shares[index]
        # what was scored counts as constant in log_prob
        return found._replace(log_prob=found.log_prob - (score - stopped(score)), log_score={COMPONENT: score})

    def draw_from(
        self, key: PRNGKey, index: Any, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None
    ) -> Draw:
        """A point of one component, with the density of the whole mixture."""
        point = self.component(index).draw(key).value
        judge = self if scored_by is None else scored_by
        if not pathwise:
            log_score = self.component(index).log_prob(stopped(point))
            return Draw(stopped(point), stopped(judge.log_prob(point)), log_score, jnp.zeros(()))
        return Draw(point, judge.log_prob(point), jnp.zeros(()), jnp.zeros(()))

    def stratum(self, index: Any) -> "Stratum":
        """The family that draws from one component."""
        return Stratum(self, index)

    def log_probs(self, value: Flat) -> Array:
        """log π_k + log q_k(u), (K,)."""
        return self.log_shares + jax.vmap(lambda part: part.log_prob(value))(self.components)

    def log_prob(self, value: Flat) -> Scalar:
        """log Σ_k π_k q_k(u) in nats."""
        return jax.nn.logsumexp(self.log_probs(value))


class Stratum(AbstractDensity):
    """Draws from component `index` of a mixture, with the density of the whole mixture."""

    mixture: Mixture
    index: Any

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Any = None) -> Draw:
        """One draw of the component."""
        judge = scored_by.mixture if isinstance(scored_by, Stratum) else scored_by
        return self.mixture.draw_from(key, self.index, pathwise=pathwise, scored_by=judge)

    def log_prob(self, value: Flat) -> Scalar:
        """That of the mixture."""
        return self.mixture.log_prob(value)
