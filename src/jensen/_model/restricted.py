"""The posterior with one entry of a discrete latent held at one of its values, the others summed out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._base.typing import Flat, Latent, Terms
from jensen._core import AbstractBijection, AbstractModel
from jensen._discrete import log_terms
from jensen._math.precision import float_type
from jensen._model.numpyro import NumPyroModel
from jensen._model.target import Target

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


def weighted(target: Target, weights: Mapping[str, np.ndarray]) -> Target:
    """log Σ_z p(x, z, θ) e^{w(z)} over R^D, with weights (K, *shape) of some discrete latents."""
    model = target.model.handled
    assert model is not None  # only then is anything summed out
    kind, sites = float_type(target.precision), model.discrete.sites
    every = {n: np.asarray(weights.get(n, np.zeros((len(s.values), *s.shape))), kind) for n, s in sites.items()}
    return Target(RestrictedModel(model.bijection, model, every), target.structure, target.precision)


def held_at(target: Target, site: str, entry: int, value: int) -> Target:
    """log p(x, z_entry = value, θ) over R^D: entries and values by their number."""
    known = next(one for one in target.structure.summed if one.name == site)
    weights = np.zeros((len(known.values), *known.shape))  # type: ignore[arg-type]
    chosen = weights.reshape(len(weights), -1)
    chosen[:, entry] = EXCLUDED
    chosen[value, entry] = 0.0
    return weighted(target, {site: weights})
