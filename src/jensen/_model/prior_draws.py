"""Draws of a program's latents from their prior, on their supports and over R^D."""

import hashlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import biject_to

from jensen._math.keys import split
from jensen._math.precision import Precision, working
from jensen._math.programs import Program
from jensen._model.numpyro import NumPyroModel
from jensen._model.target import Target
from jensen._program.number_widths import seeded


def prior_draws(
    model: NumPyroModel, names: list[str], precision: Precision, count: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws of the latents `names`, stacked; normal ones over R^D where the prior is improper."""

    def one(data: Any, key: Any, improper: bool = False) -> dict[str, Any]:
        program = seeded(model.fn, key)
        if improper:
            program = handlers.substitute(program, substitute_fn=partial(_without_draws, key))
        trace = handlers.trace(program).get_trace(**data, **model.fixed.value)
        return {name: trace[name]["value"] for name in names}

    with working(precision):
        keys = split(jax.random.key(seed), count)
        try:
            draws = Program(jax.vmap(one, (None, 0)))(model.data, keys)
        except NotImplementedError:  # what an improper distribution says when it is asked for draws
            draws = Program(jax.vmap(partial(one, improper=True), (None, 0)))(model.data, keys)
        return jax.device_get(draws)


def _without_draws(key: Any, site: dict[str, Any]) -> Any:
    """A value for a latent whose distribution has no draws: standard normal on the unconstrained scale."""
    if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
        return None
    fn = site["fn"]
    try:
        jax.eval_shape(lambda: fn.sample(jax.random.key(0)))
    except NotImplementedError:
        chart = biject_to(fn.support)
        own = jax.random.fold_in(key, int.from_bytes(hashlib.sha256(site["name"].encode()).digest()[:4], "big"))
        return chart(jax.random.normal(own, chart.inverse_shape(fn.shape()), jnp.result_type(float)))
    return None


def prior_points(target: Target, count: int, seed: int) -> np.ndarray:
    """Draws of the prior over R^D, (rows, D); none of them for a density that is no program."""
    model = target.model.handled
    if model is None:
        return np.empty((0, target.dim))
    names = [site.name for site in target.structure.latents]
    points, _ = target.inverse(prior_draws(model, names, target.precision, count, seed))
    return points[np.isfinite(points).all(axis=1)]
