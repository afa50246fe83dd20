"""The Rényi bound."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from jensen._base.arguments import count_of, number
from jensen._base.errors import OptionError
from jensen._base.typing import LogWeights, Scalar
from jensen._core import AbstractBound


class Renyi(AbstractBound):
    """L_α = E[1/(1 - α) · log (1/K) Σ_k w_k^(1 - α)], w_k = p(x, z_k) / q(z_k), 0 ≤ α < 1: from L_K down to the ELBO.

    With K → ∞ it is log p(x) minus the Rényi divergence of order α from q to the posterior; for any K its mean is at
    most log p(x), and rises with K. Li and Turner (2016), equation 10. Orders below zero would give an upper bound in
    the limit only, since its estimate is biased low: `ChiUpper` has a confidence limit instead.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(Renyi(0.5, 2)(jnp.log(jnp.array([1.0, 9.0])))), 4)  # 2 log 2
        1.3863
    """

    linear: ClassVar[bool] = False
    alpha: float = eqx.field(static=True, default=0.5)
    num_particles: int = eqx.field(static=True, default=8)

    @property
    def group(self) -> int:
        """K."""
        return self.num_particles

    def __check_init__(self) -> None:
        if not 0.0 <= number(self.alpha, "alpha", "Option: alpha of Renyi.") < 1.0:
            raise OptionError(
                f"alpha must be in [0, 1), got {self.alpha}.",
                "Option: alpha of Renyi.",
                "alpha = 1 is the ELBO; for an upper bound see ChiUpper.",
            )
        count_of(self.num_particles, "num_particles", "Option: num_particles of Renyi.")

    def __call__(self, log_weights: LogWeights) -> Scalar:
        """Mean over groups, in nats."""
        if log_weights.size % self.num_particles:
            raise ValueError(f"{log_weights.size} draws do not make groups of {self.num_particles}")
        order = 1.0 - self.alpha
        groups = order * log_weights.reshape(-1, self.num_particles)
        return jnp.mean(logsumexp(groups, axis=1) - jnp.log(self.num_particles)) / order
