"""A program's log density as rows: every site entry by entry, events of independent entries taken apart."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to, constraints

from jensen._base.typing import Array, Flat, Latent
from jensen._model.numpyro import NumPyroModel
from jensen._program.bijection import SiteBijection
from jensen._program.number_widths import seeded
from jensen._program.scans import AtOnce


def log_rows(model: NumPyroModel, latent: Latent) -> dict[str, Array]:
    """Site -> log densities of its entries, in nats; they add up to the log joint.

    As `NumPyroModel.log_joint`, but what `to_event` has declared to be one event has a row for each of its entries.
    """
    with AtOnce():
        program = handlers.substitute(seeded(model.fn), data=latent)
        trace = handlers.trace(program).get_trace(**model.kwargs)
    out = {}
    for name, site in trace.items():
        if site["type"] != "sample":
            continue
        fn = site["fn"]
        scaled = site["scale"] is not None
        while isinstance(fn, dist.Independent) and not (scaled and jnp.ndim(site["scale"])):
            fn = fn.base_dist
        value, between = site["value"], site["intermediates"]
        rows = fn.log_prob(value, between) if between else fn.log_prob(jnp.asarray(value))
        out[name] = jnp.asarray(site["scale"] * rows if scaled else rows)
    return out


def on_support(chart: SiteBijection, point: Flat) -> tuple[Latent, dict[str, Array]]:
    """The latents of a chart at u, and site -> log |dz/du| entry by entry."""
    latent, rows = {}, {}
    for site, where in chart.structure.slices():
        support: Any = chart.bounds.get(site.name, site.support)
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        transform = biject_to(support)
        raw = point[where].reshape(site.unconstrained_shape)
        latent[site.name] = transform(raw)
        rows[site.name] = jnp.asarray(transform.log_abs_det_jacobian(raw, latent[site.name]))
    return latent, rows
