"""The beta factor."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._families.exponential.dirichlet import Dirichlet
from jensen._math.gamma_functions import digamma, gammaln


class Beta(AbstractExponentialFactor):
    """Beta(a, b) elementwise: t = (log z, log(1 - z)), η = (a - 1, b - 1), A = log B(a, b)."""

    natural: Natural

    @property
    def concentrations(self) -> tuple[Array, Array]:
        """(a, b)."""
        return self.natural["log"] + 1.0, self.natural["log1m"] + 1.0

    def log_normalizer(self) -> Array:
        """A(η)."""
        a, b = self.concentrations
        return gammaln(a) + gammaln(b) - gammaln(a + b)  # jax's betaln is good to 1e-8 only

    def mean_params(self) -> Natural:
        """(ψ(a) - ψ(a + b), ψ(b) - ψ(a + b))."""
        a, b = self.concentrations
        return {"log": digamma(a) - digamma(a + b), "log1m": digamma(b) - digamma(a + b)}

    def statistics(self, *values: Array) -> Natural:
        """(log z, log(1 - z))."""
        (z,) = values
        return {"log": jnp.log(z), "log1m": jnp.log1p(-z)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """A beta draw, kept off 0 and 1 by as little as its logs allow."""
        share = jax.random.beta(key, *self.concentrations)
        kind = jnp.finfo(share.dtype)
        return (jnp.clip(share, kind.tiny, 1.0 - kind.epsneg),)

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`: the first of two shares of gamma variables."""
        first, second = (np.asarray(self.natural[name]) for name in ("log", "log1m"))
        drawn = Dirichlet({"log": np.stack([first, second], axis=-1)}).host_draws(rng, count)  # type: ignore[dict-item]
        kind = np.finfo(first.dtype)
        return None if drawn is None else (np.clip(drawn[0][..., 0], kind.tiny, 1.0 - kind.epsneg),)

    def contains(self) -> Array:
        """A > 0 and b > 0."""
        a, b = self.concentrations
        return (a > 0) & (b > 0)

    def mode(self) -> tuple[Array, ...]:
        """η₁ / (η₁ + η₂), kept off 0 and 1 by the smallest number that their logs allow."""
        a, b = self.natural["log"], self.natural["log1m"]
        eps = jnp.finfo(a.dtype).eps
        return (jnp.clip(a / (a + b), eps, 1.0 - eps),)

    def has_mode(self) -> Array:
        """η₁, η₂ ≥ 0, not both zero."""
        a, b = self.natural["log"], self.natural["log1m"]
        return (a >= 0) & (b >= 0) & (a + b > 0)

    def means(self) -> tuple[Array, ...]:
        """A / (a + b)."""
        a, b = self.concentrations
        return (a / (a + b),)

    def variances(self) -> tuple[Array, ...]:
        """A b / (a + b)² (a + b + 1)."""
        a, b = self.concentrations
        return (a * b / ((a + b) ** 2 * (a + b + 1.0)),)
