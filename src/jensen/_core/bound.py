"""Contract 3, the bound: a number from log importance weights."""

import abc

import equinox as eqx

from jensen._base.typing import Array, LogWeights, Scalar


class AbstractBound(eqx.Module):
    """A lower bound on log p(x) as a function of log w_s = log p(x, z_s) - log q(z_s), z_s ~ q.

    Attributes:
        linear: whether it is linear in the log weights, so that zero-mean terms may be added to them.
        group: number of draws that enter together; the number of draws must be a multiple of it.
    """

    linear: eqx.AbstractClassVar[bool]

    @property
    def group(self) -> int:
        """One, unless the bound says otherwise."""
        return 1

    @abc.abstractmethod
    def __call__(self, log_weights: LogWeights) -> Scalar:
        """The bound in nats; its mean over draws is at most log p(x)."""

    def joined(self, observed: Array, latent: Array) -> Array:
        """The log weight from log p(x | z) and log p(z) - log q(z); a bound may weigh the two."""
        return observed + latent

    def of_joined(self, log_weights: LogWeights) -> Scalar:
        """The bound of log weights made by `joined`."""
        return self(log_weights)
