"""Points of R^D as one array a latent, in which a renumbering of states moves values and does nothing else."""

import jax
import numpy as np
from numpyro.distributions import constraints

from jensen._model.target import Target
from jensen._program.bijection import AbstractChart, SiteBijection
from jensen._program.structure import Site


def by_site(target: Target, points: np.ndarray) -> dict[str, np.ndarray]:
    """The latents at points (rows, D), each (rows, ...).

    Unconstrained, which compiles nothing, where every coordinate is mapped alone and all of a latent in the same way;
    on their supports elsewhere. A latent whose axes say nothing has one, of all its entries.
    """
    if _alone(target):
        return {s.name: points[:, where].reshape(-1, *s.shape) for s, where in target.structure.slices()}
    values, whole = target.constrain(points), _whole(target)
    latents = {site.name: values[site.name] for site in target.structure.latents}
    return {name: value.reshape(len(value), -1) if name in whole else value for name, value in latents.items()}


def joined(target: Target, values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Points (rows, D) of such arrays, and log |det| (rows,) of the map from them to the arrays, in nats."""
    if not _alone(target):
        shapes = {site.name: site.shape for site in target.structure.latents}
        return target.inverse({name: value.reshape(-1, *shapes[name]) for name, value in values.items()})
    rows = len(next(iter(values.values())))
    return np.concatenate([values[s.name].reshape(rows, -1) for s in target.structure.latents], axis=1), np.zeros(rows)


def _whole(target: Target) -> tuple[str, ...]:
    chart = target.model.bijection
    return chart.whole if isinstance(chart, AbstractChart) else ()


def _alone(target: Target) -> bool:
    chart = target.model.bijection
    return type(chart) is SiteBijection and all(_same(chart, site) for site in target.structure.latents)


def _same(chart: SiteBijection, site: Site) -> bool:
    """Whether one map of a number serves all numbers of a site."""
    support = chart.bounds.get(site.name, site.support)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support.event_dim == 0 and all(np.size(leaf) == 1 for leaf in jax.tree.leaves(support))
