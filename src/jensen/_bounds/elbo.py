"""The evidence lower bound."""

from typing import ClassVar

import jax.numpy as jnp

from jensen._base.typing import LogWeights, Scalar
from jensen._core import AbstractBound


class ELBO(AbstractBound):
    """L = E_q[log p(x, z) - log q(z)] = log p(x) - KL(q ‖ p(z | x)), estimated by the mean log weight.

    Jordan, Ghahramani, Jaakkola and Saul (1999); unbiased at any number of draws; zero variance at the exact posterior.

    Example:
        >>> import jax.numpy as jnp
        >>> float(ELBO()(jnp.array([-1.0, -3.0])))
        -2.0
    """

    linear: ClassVar[bool] = True

    def __call__(self, log_weights: LogWeights) -> Scalar:
        """The mean, in nats."""
        return jnp.mean(log_weights)
