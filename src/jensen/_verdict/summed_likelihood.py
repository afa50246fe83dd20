"""Likelihoods of rows whose discrete latents were summed out."""

from typing import Any

import jax
import numpy as np

from jensen._math.precision import float_type, working
from jensen._model import Target
from jensen._verdict.answer import Draws


@jax.jit
def _parts(model: Any, latents: Any) -> Any:
    return jax.lax.map(model.log_joint, latents)


def summed_likelihood(target: Target, draws: Draws, names: list[str]) -> Draws:
    """log Σ_z p(z | θ) p(y_n | z, θ) for every row n: observed site -> (draws, ...), in nats.

    Only for sites that are the one observation of a part of the log joint in which the rows are still apart; a chain,
    or a latent that several rows share, leaves no likelihood of single rows.
    """
    dtype = float_type(target.precision)
    latents = {site.name: np.asarray(draws[site.name], dtype) for site in target.structure.latents}
    with working(target.precision):
        parts = jax.device_get(_parts(target.model, latents))
    sites, found = target.structure.sites, {}
    for key, values in parts.items():
        members = key.split(" + ")
        observed = [name for name in members if name in names]
        others = [name for name in members if name not in names]
        discrete = all(sites[name].values is not None for name in others)
        if len(observed) == 1 and others and discrete:
            site = sites[observed[0]]
            if values.shape[1:] == site.shape[: len(site.shape) - site.event_dim]:
                found[observed[0]] = values
    return found
