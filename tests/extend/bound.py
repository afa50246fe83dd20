"""A bound from outside: the thermodynamic variational objective (Masrani, Le and Wood 2019)."""

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen.extend import AbstractBound


class Thermodynamic(AbstractBound):
    """Σ_j (β_j+1 - β_j) E_β_j[log w], E_β the mean with weights ∝ w^β over K draws, 0 = β_0 < ... < β_J = 1.

    log (1/K) Σ_k w_k^β is convex in β and these are the left Riemann sums of its slope, so that the mean is at most
    that of log (1/K) Σ_k w_k, itself at most log p(x). Equal where q is the posterior; the ELBO for J = 1.
    """

    linear = False
    num_particles: int = eqx.field(static=True, default=8)
    num_temperatures: int = eqx.field(static=True, default=4)

    @property
    def group(self):
        return self.num_particles

    def __call__(self, log_weights):
        groups = log_weights.reshape(-1, 1, self.num_particles)
        betas = jnp.arange(self.num_temperatures)[:, None] / self.num_temperatures
        tempered = jax.nn.softmax(betas * groups, axis=-1)
        return jnp.mean(jnp.sum(tempered * groups, axis=-1))
