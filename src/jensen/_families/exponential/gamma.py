"""The gamma factor on a power of the latent."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural
from jensen._math.gamma_draws import log_gamma_draws
from jensen._math.gamma_functions import digamma, gammaln


class GammaPower(AbstractExponentialFactor):
    """z**p ~ Gamma(a, b): gamma for p = 1, inverse gamma for p = -1, the standard deviation of a variance for p = ±2.

    t = (z**p, log z), η = (-b, a p - 1), A = log Γ(a) - a log b - log |p|.
    """

    natural: Natural
    power: float = eqx.field(static=True)

    @property
    def concentration(self) -> Array:
        """A = (η₂ + 1) / p."""
        return (self.natural["log"] + 1.0) / self.power

    @property
    def rate(self) -> Array:
        """B = -η₁."""
        return -self.natural["power"]

    def log_normalizer(self) -> Array:
        """A(η)."""
        a = self.concentration
        return gammaln(a) - a * jnp.log(self.rate) - jnp.log(abs(self.power))

    def mean_params(self) -> Natural:
        """(a / b, (ψ(a) - log b) / p)."""
        a = self.concentration
        return {"power": a / self.rate, "log": (digamma(a) - jnp.log(self.rate)) / self.power}

    def statistics(self, *values: Array) -> Natural:
        """(z**p, log z)."""
        (z,) = values
        return {"power": z**self.power, "log": jnp.log(z)}

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """(gamma(a) / b)**(1 / p), kept where it and its log are finite."""
        value = (jnp.exp(log_gamma_draws(key, self.concentration)) / self.rate) ** (1.0 / self.power)
        kind = jnp.finfo(value.dtype)
        return (jnp.clip(value, kind.tiny, kind.max),)

    def host_draws(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...] | None:
        """As `draw`."""
        log, power = (np.asarray(self.natural[name]) for name in ("log", "power"))
        shape = (log.astype(float) + 1.0) / self.power
        if not np.all((shape > 0) & (power < 0)):
            return None
        value = (rng.standard_gamma(shape, (count, *log.shape)) / -power) ** (1.0 / self.power)
        kind = np.finfo(log.dtype)
        return (np.clip(value, kind.tiny, kind.max).astype(log.dtype),)

    def contains(self) -> Array:
        """A > 0 and b > 0."""
        return (self.concentration > 0) & (self.rate > 0)

    def _moment(self, order: float) -> Array:
        """E[z**order] = Γ(a + order / p) / Γ(a) · b**(-order / p)."""
        a, shift = self.concentration, order / self.power
        value = jnp.exp(gammaln(a + shift) - gammaln(a) - shift * jnp.log(self.rate))
        return jnp.where(a + shift > 0, value, jnp.nan)

    def mode(self) -> tuple[Array, ...]:
        """(-η₂ / (p η₁))**(1 / p)."""
        return (self._power_at_mode() ** (1.0 / self.power),)

    def _power_at_mode(self) -> Array:
        return self.natural["log"] / (self.power * self.rate)

    def mode_params(self) -> Natural:
        """(z*ᵖ, log z*), without powers of powers."""
        power = self._power_at_mode()
        return {"power": power, "log": jnp.log(power) / self.power}

    def has_mode(self) -> Array:
        """η₁ < 0 and η₂ / p > 0, the mode neither zero nor infinite."""
        power = self._power_at_mode()
        return (self.rate > 0) & (power > 0) & jnp.isfinite(power) & jnp.isfinite(jnp.log(power))

    def means(self) -> tuple[Array, ...]:
        """E[z]."""
        return (self._moment(1.0),)

    def variances(self) -> tuple[Array, ...]:
        """Var[z]."""
        return (self._moment(2.0) - self._moment(1.0) ** 2,)
