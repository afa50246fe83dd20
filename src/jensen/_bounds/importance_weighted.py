"""The importance-weighted bound."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from jensen._base.arguments import count_of
from jensen._base.typing import LogWeights, Scalar
from jensen._core import AbstractBound


class ImportanceWeighted(AbstractBound):
    """L_K = E[log (1/K) Σ_k w_k], w_k = p(x, z_k) / q(z_k): rises with K from the ELBO (K = 1) to log p(x).

    The draws are split into as many groups of `num_particles` as fit; their number must be a multiple of it.
    Burda, Grosse and Salakhutdinov (2016), equation 8.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(ImportanceWeighted(2)(jnp.log(jnp.array([1.0, 3.0])))), 4)  # log 2
        0.6931
    """

    linear: ClassVar[bool] = False
    num_particles: int = eqx.field(static=True)

    @property
    def group(self) -> int:
        """K."""
        return self.num_particles

    def __check_init__(self) -> None:
        count_of(self.num_particles, "num_particles", "Option: num_particles of ImportanceWeighted.")

    def __call__(self, log_weights: LogWeights) -> Scalar:
        """Mean over groups of the log mean weight, in nats."""
        if log_weights.size % self.num_particles:
            raise ValueError(f"{log_weights.size} draws do not make groups of {self.num_particles}")
        groups = log_weights.reshape(-1, self.num_particles)
        return jnp.mean(logsumexp(groups, axis=1)) - jnp.log(self.num_particles)
