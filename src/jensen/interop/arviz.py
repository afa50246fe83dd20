"""Fits as ArviZ data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jensen.math.precision import float_type, working
from jensen.models.structure import Structure

if TYPE_CHECKING:
    import xarray as xr

    from jensen.models import Target
    from jensen.result import Fit


@jax.jit
def _all_terms(model: Any, points: jax.Array) -> Any:
    return jax.lax.map(lambda u: model.log_joint(model.bijection.forward(u)[0]), points)


def to_arviz(fit: Fit, num_draws: int, log_likelihood: bool) -> xr.DataTree:
    """A DataTree with one chain of `num_draws` draws (by the rule of `Fit.sample`).

    Groups: posterior; log_likelihood (pointwise, from the model's own terms) and observed_data where the model is at
    hand. The verdict, k̂ and the bound are attributes of the posterior.
    """
    from arviz_base import from_dict

    draws = fit.sample(num_draws)
    groups: dict[str, dict[str, Any]] = {"posterior": {k: v[None] for k, v in draws.items()}}
    if fit.target is not None:
        observed = observed_values(fit.target)
        if log_likelihood and observed:
            groups["log_likelihood"] = {k: v[None] for k, v in pointwise(fit.target, draws, list(observed)).items()}
        if observed:
            groups["observed_data"] = observed
    groups = {group: {flat_name(k): v for k, v in values.items()} for group, values in groups.items()}
    tree = from_dict(groups, dims=_dims(fit.structure), coords=_coords(fit.structure))
    report = fit.check()
    tree["posterior"].attrs.update(
        inference_library="jensen",
        method=fit.method,
        verdict=report.verdict,
        khat=report.khat,
        elbo=fit.elbo.value,
        elbo_se=fit.elbo.se,
    )
    return tree


def pointwise(target: Target, draws: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Log likelihood of every observation under every draw, (draws, ...) per observed site, in nats."""
    dtype = float_type(target.precision)
    latents = {site.name: np.asarray(draws[site.name], dtype) for site in target.structure.latents}
    with working(target.precision):
        points = np.asarray(_unconstrain_all(target.model, latents))
        terms = jax.device_get(_all_terms(target.model, points))
    return {name: np.asarray(terms[name], float) for name in names}


_unconstrain_all = jax.jit(jax.vmap(lambda model, latent: model.bijection.inverse(latent)[0], (None, 0)))


def observed_values(target: Target) -> dict[str, np.ndarray]:
    """Values of the observed sites."""
    from jensen.models.analysis import feasible_trace
    from jensen.models.numpyro import NumPyroModel

    if not isinstance(target.model, NumPyroModel) or not target.structure.observed:
        return {}
    fn, fixed = target.model.fn, target.model.fixed.value
    names = [site.name for site in target.structure.observed]

    def values(data: dict[str, Any]) -> dict[str, Any]:
        trace = feasible_trace(fn, {**data, **fixed})
        return {name: trace[name]["value"] for name in names}

    with working(target.precision):
        return jax.device_get(jax.jit(values)(target.model.data))


def flat_name(name: str) -> str:
    """A site's name without the slash that scoped programs put in, which a tree of groups cannot hold."""
    return name.replace("/", ".")


def _dims(structure: Structure) -> dict[str, list[str]]:
    return {
        flat_name(site.name): [flat_name(dim) for dim in site.dims]
        for site in structure.sites.values()
        if site.shape and site.kind != "factor"
    }


def _coords(structure: Structure) -> dict[str, np.ndarray]:
    return {flat_name(plate.name): np.arange(plate.size) for plate in structure.plates.values()}
