"""An exponential family from outside, which coordinate ascent recognises: von Mises distributions on the circle."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import i0e, i1e
from numpyro.distributions import constraints
from scipy import special

from jensen.extend import AbstractExponentialFactor, Stat, density, known_function, recognises, statistic

cos = statistic("cos", lambda xp, z: xp.cos(z), primitive="cos")
sin = statistic("sin", lambda xp, z: xp.sin(z), primitive="sin")


def log_size(xp, concentration):
    """log 2π I₀(κ)."""
    scaled = i0e(concentration) if xp is jnp else special.i0e(concentration)
    return concentration + xp.log(2.0 * xp.pi * scaled)


@density(dist.VonMises, "loc", "concentration")
def von_mises(x, loc, concentration):
    """κ cos(x - μ) - log 2π I₀(κ), the cosine of the difference taken apart; κ holds no latent."""
    size = known_function(concentration, log_size, "the concentration of a VonMises density")
    return concentration * (cos(x) * cos(loc) + sin(x) * sin(loc)) - size


class VonMises(AbstractExponentialFactor):
    """t = (cos z, sin z), η = κ (cos μ, sin μ), A = log 2π I₀(κ)."""

    natural: dict

    @property
    def concentration(self):
        return jnp.hypot(self.natural["cos"], self.natural["sin"])

    def log_normalizer(self):
        return log_size(jnp, self.concentration)

    def mean_params(self):
        kappa = self.concentration
        shrink = i1e(kappa) / (i0e(kappa) * jnp.maximum(kappa, 1e-12))  # I₁ / (κ I₀)
        return {name: shrink * part for name, part in self.natural.items()}

    def statistics(self, *values):
        return {"cos": jnp.cos(values[0]), "sin": jnp.sin(values[0])}

    def draw(self, key):
        direction = jnp.arctan2(self.natural["sin"], self.natural["cos"])
        return (dist.VonMises(direction, self.concentration).sample(key),)

    def contains(self):
        return jnp.isfinite(self.concentration)

    def means(self):
        return (self._moment(lambda z: z),)

    def variances(self):
        return (self._moment(lambda z: (z - self.means()[0][..., None]) ** 2),)

    def _moment(self, fn):
        """E[fn(z)] on (-π, π), by quadrature: neither moment has a closed form."""
        z = jnp.linspace(-jnp.pi, jnp.pi, 2001)
        log_q = self.natural["cos"][..., None] * jnp.cos(z) + self.natural["sin"][..., None] * jnp.sin(z)
        return jnp.sum(jnp.exp(log_q - self.log_normalizer()[..., None]) * fn(z), axis=-1) * (z[1] - z[0])


@recognises(constraints.circular)
def direction(seen):
    """A latent angle, wherever the log joint holds it in cosines and sines."""
    stats = {"cos": Stat("cos"), "sin": Stat("sin")}
    return seen.block("a von Mises distribution", stats, VonMises, lambda rng, shape: 0.1 * rng.normal(size=shape))
