"""A NumPyro program as a model. All handler code lives in this file and in `analysis.py`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from numpyro import handlers
from numpyro.infer.util import compute_log_probs

from jensen._typing import Flat, Latent, Terms
from jensen.core import AbstractModel
from jensen.models.bijection import SiteBijection
from jensen.models.frozen import Frozen


class NumPyroModel(AbstractModel):
    """An ordinary NumPyro model with its data.

    `data` are arrays that compiled programs take as arguments; `fixed` are the arguments that the model needs as
    concrete Python values (sizes, flags, strings, and arrays it inspects while it builds the graph).
    """

    fn: Callable[..., Any] = eqx.field(static=True)
    data: dict[str, Any]
    fixed: Frozen = eqx.field(static=True)
    bijection: SiteBijection

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments the program is called with."""
        return {**self.data, **self.fixed.value}

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """Elementwise log densities of every sample and factor site, masks and scales applied, in nats."""
        del batch
        return compute_log_probs(seeded(self.fn), (), self.kwargs, latent, sum_log_prob=False)[0]

    def constrain(self, point: Flat) -> Latent:
        """Latents and deterministic sites at u."""
        latent, _ = self.bijection.forward(point)
        if not self.bijection.structure.deterministic:
            return latent
        trace = handlers.trace(handlers.substitute(seeded(self.fn), data=latent)).get_trace(**self.kwargs)
        extra = {site.name: trace[site.name]["value"] for site in self.bijection.structure.deterministic}
        return {**latent, **extra}


def seeded(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The program with a fixed key, for programs that ask for one while they only rearrange data."""
    return handlers.seed(fn, rng_seed=0)
