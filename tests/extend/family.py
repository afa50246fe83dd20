"""A variational family from outside: a linear map of independent logistic variables, heavier than Gaussian tails."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen.extend import AbstractLocationScale, Draw, FullRank

SPREAD = np.sqrt(3.0) / np.pi  # the scale at which a logistic variable has sd 1


class Logistic(AbstractLocationScale):
    """u = m + L s with s_d logistic: log q(u) = Σ_d [-s_d - 2 log(1 + exp(-s_d))] - log |L|, s = L⁻¹ (u - m).

    `frame` holds m and L, whose maps are those of the Gaussian of the same name.
    """

    frame: FullRank

    @classmethod
    def start(cls, q, seed=0):
        """With the Gaussian's mean and covariance."""
        return cls(jax.tree.map(jnp.asarray, FullRank.from_factor(np.asarray(q.loc), SPREAD * q.factor())))

    @property
    def dim(self):
        return self.frame.dim

    def linear(self, shift, factor):
        frame = jax.tree.map(np.asarray, self.frame).linear(shift, factor)
        return Logistic(jax.tree.map(jnp.asarray, frame))

    def draw(self, key, *, pathwise=True, scored_by=None):
        value = self.frame.transform(jr.logistic(key, (self.dim,), self.frame.loc.dtype))
        log_prob = (self if scored_by is None else scored_by).log_prob(value)
        return Draw(value, log_prob, jnp.zeros(()), jnp.zeros(()))

    def log_prob(self, value):
        s = self.frame.whiten(value)
        return jnp.sum(-s - 2.0 * jax.nn.softplus(-s)) - self.frame.half_log_det()
