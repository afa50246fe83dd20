"""Fits as ArviZ data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._program.structure import Structure

if TYPE_CHECKING:
    import xarray as xr

    from jensen._fit.result import Fit


def to_arviz(fit: Fit, num_draws: int, log_likelihood: bool) -> xr.DataTree:
    """A DataTree with one chain of `num_draws` draws (by the rule of `Fit.sample`).

    Groups: posterior; log_likelihood (pointwise, from the model's own terms) and observed_data where the model is at
    hand. The verdict, k̂ and the bound are attributes of the posterior.
    """
    from arviz_base import from_dict

    draws = fit.sample(num_draws)
    groups: dict[str, dict[str, Any]] = {"posterior": {k: v[None] for k, v in draws.items()}}
    if fit.target is not None:
        observed = observed_values(fit)
        if log_likelihood and observed:
            groups["log_likelihood"] = {k: v[None] for k, v in pointwise(fit, draws, list(observed)).items()}
        if observed:
            groups["observed_data"] = observed
    shown = {name for values in groups.values() for name in values}
    groups = {group: {flat_name(k): v for k, v in values.items()} for group, values in groups.items()}
    tree = from_dict(groups, dims=_dims(fit.structure), coords=_coords(fit.structure, shown))
    report = fit.check()
    tree["posterior"].attrs.update(
        inference_library="jensen",
        method=fit.method,
        verdict=report.verdict,
        reasons=" ".join(report.reasons),
        remedy=report.remedy,
        interrupted=int(fit.outcome.certificate.interrupted),
        khat=report.khat,
        elbo=fit.elbo.value,
        elbo_se=fit.elbo.se,
    )
    return tree


def pointwise(fit: Fit, draws: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Log likelihood of every observation under every draw, (draws, ...) per observed site, in nats."""
    terms = fit._attached("log likelihoods").pointwise(draws, names)
    return {name: np.asarray(values, float) for name, values in terms.items()}


def marginals(fit: Fit, num_draws: int, seed: int) -> dict[str, xr.DataArray]:
    """Probabilities of the values of discrete latents that were summed out; see `Fit.marginals`."""
    import xarray as xr

    answer = fit._attached("marginal probabilities")
    if not fit.structure.summed:
        return {}
    corrected = fit.check().verdict == "usable"
    rows = fit.pool.resample(num_draws, seed) if corrected else np.arange(min(num_draws, fit.pool.half))
    found = answer.marginals(fit.pool.points[rows])
    sites = {site.name: site for site in fit.structure.summed}
    return {
        name: xr.DataArray(values, dims=[*sites[name].dims, "state"], coords={"state": sites[name].values}, name=name)
        for name, values in found.items()
    }


def observed_values(fit: Fit) -> dict[str, np.ndarray]:
    """Values of the observed sites."""
    return fit._attached("the observed values").observed()


def flat_name(name: str) -> str:
    """A site's name without the slash that scoped programs put in, which a tree of groups cannot hold."""
    return name.replace("/", ".")


def _dims(structure: Structure) -> dict[str, list[str]]:
    return {
        flat_name(site.name): [flat_name(dim) for dim in site.dims]
        for site in structure.sites.values()
        if site.shape and site.kind != "factor"
    }


def _coords(structure: Structure, shown: set[str]) -> dict[str, np.ndarray]:
    """The rows of every plate that holds a site to be shown; others may be too many to be numbered."""
    plates = [plate for site in structure.sites.values() if site.name in shown for plate in site.plates]
    return {flat_name(plate.name): np.arange(plate.size) for plate in plates}
