"""A change of bound by name: the divergence from the prior counts β times."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from jensen._base.arguments import number
from jensen._base.errors import OptionError
from jensen._base.typing import Array, LogWeights, Scalar
from jensen._core import AbstractBound


class Weighted(AbstractBound):
    """L_β = E_q[log p(x | z)] - β KL(q(z) ‖ p(z)) for the latents of a row: the ELBO at β = 1.

    Higgins et al. (2017), equation 4. For β > 1 a looser lower bound on log p(x), for β < 1 no bound at all; a fit's
    `elbo` and `evidence` stay those of the model, only what is maximised changes. It needs the log weight in two parts,
    which `jn.amortised` has.

    Example:
        >>> import jax.numpy as jnp
        >>> float(Weighted(4.0).joined(jnp.array(-3.0), jnp.array(-0.5)))
        -5.0
    """

    linear: ClassVar[bool] = True
    beta: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        number(self.beta, "beta", "Option: beta of Weighted (1 is the ELBO).", low=0.0, open_low=True)

    def joined(self, observed: Array, latent: Array) -> Array:
        """log p(x | z) + β (log p(z) - log q(z))."""
        return observed + self.beta * latent

    def of_joined(self, log_weights: LogWeights) -> Scalar:
        """The mean of log weights that were joined."""
        return jnp.mean(log_weights)

    def __call__(self, log_weights: LogWeights) -> Scalar:
        """Refused: of a log weight as a whole the divergence cannot be told."""
        raise OptionError(
            "The β-weighted bound needs the likelihood and the divergence apart, which this method does not keep.",
            "Option: bound.",
            "Use jn.amortised(bound=jn.Weighted(...)), or scale the likelihood in the model: "
            "numpyro.handlers.scale(scale=1 / beta).",
        )
