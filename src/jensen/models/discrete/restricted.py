"""The posterior with one entry of a discrete latent held at one of its values, the others summed out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._typing import Flat, Latent, Terms
from jensen.core import AbstractBijection, AbstractModel
from jensen.math.precision import float_type
from jensen.models.discrete.summed import log_terms
from jensen.models.numpyro import NumPyroModel
from jensen.models.target import Target

EXCLUDED = -1e9
"""Log weight of the values that are left out: finite, so that derivatives are numbers."""


class RestrictedModel(AbstractModel):
    """log Σ_z p(x, z, θ) e^{w(z)}, w extra log weights (K, *shape) for the values of discrete latents."""

    bijection: AbstractBijection
    model: NumPyroModel
    weights: Mapping[str, Any]

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """The parts of the log sum."""
        del batch
        return log_terms(self.model, latent, self.weights)

    def constrain(self, point: Flat) -> Latent:
        """The model's own."""
        return self.model.constrain(point)


def held_at(target: Target, site: str, entry: int, value: int) -> Target:
    """log p(x, z_entry = value, θ) over R^D: entries and values by their number."""
    model = target.model
    assert isinstance(model, NumPyroModel)  # only then is anything summed out
    assert model.discrete is not None
    kind = float_type(target.precision)
    weights = {n: np.zeros((len(s.values), *s.shape), kind) for n, s in model.discrete.sites.items()}
    chosen = weights[site].reshape(len(weights[site]), -1)
    chosen[:, entry] = EXCLUDED
    chosen[value, entry] = 0.0
    return Target(RestrictedModel(model.bijection, model, weights), target.structure, target.precision)
