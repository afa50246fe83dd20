"""A product of exponential-family factors over named sites."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen._base.typing import Array, Latent, PRNGKey, Scalar
from jensen._core import AbstractDensity, Draw
from jensen._families.exponential.contract import AbstractExponentialFactor
from jensen._math.readout import readout


class Product(AbstractDensity):
    """q(z) = Π_j q_j(z_j) over the latents' own supports, discrete latents included.

    Attributes:
        factors: block name -> factor.
        blocks: (block name, the sites of its factor in their order).
    """

    factors: dict[str, AbstractExponentialFactor]
    blocks: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)

    @property
    def sites(self) -> dict[str, tuple[str, ...]]:
        """Block name -> its sites."""
        return dict(self.blocks)

    def factor(self, site: str) -> AbstractExponentialFactor:
        """The factor that holds a site."""
        return self.factors[next(block for block, sites in self.sites.items() if site in sites)]

    def log_prob(self, value: Latent) -> Scalar:
        """log q(z) in nats; `value` maps every site to its value."""
        parts = [factor.log_prob(*(value[s] for s in self.sites[name])) for name, factor in self.factors.items()]
        return sum(parts, start=jnp.zeros(()))

    def entropy(self) -> Scalar:
        """H[q] = Σ_j H[q_j], in nats."""
        return sum((factor.entropy() for factor in self.factors.values()), start=jnp.zeros(()))

    def exact_entropy(self) -> Scalar:
        """The whole of log q has the closed-form mean -H[q]."""
        return self.entropy()

    def draw(self, key: PRNGKey, *, pathwise: bool | frozenset[str] = True, scored_by: Self | None = None) -> Draw:
        """One draw; its choices are scored, not reparameterised."""
        del pathwise
        value = jax.lax.stop_gradient(self.sample(key))
        log_prob = jax.lax.stop_gradient((self if scored_by is None else scored_by).log_prob(value))
        return Draw(value, log_prob, self.log_prob(value), log_prob)

    def sample(self, key: PRNGKey) -> Latent:
        """One draw of every site."""
        keys = jax.random.split(key, len(self.factors))
        values: Latent = {}
        for (name, factor), factor_key in zip(self.factors.items(), keys, strict=True):
            values.update(zip(self.sites[name], factor.draw(factor_key), strict=True))
        return values

    @readout
    def means(self) -> dict[str, Array]:
        """E[z] by site."""
        return self._by_site({name: factor.means() for name, factor in self.factors.items()})

    @readout
    def variances(self) -> dict[str, Array]:
        """Var[z] elementwise by site."""
        return self._by_site({name: factor.variances() for name, factor in self.factors.items()})

    @readout
    def moments(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """(`means`, `variances`), by one program."""
        return self.means(), self.variances()

    def _by_site(self, values: dict[str, tuple[Array, ...]]) -> dict[str, Array]:
        return {s: v for name, group in values.items() for s, v in zip(self.sites[name], group, strict=True)}
