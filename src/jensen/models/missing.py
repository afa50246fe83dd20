"""NaN in the data: refused where it reaches the density, accepted where the model fills or leaves it out."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import biject_to

from jensen.models.analysis import feasible, traced
from jensen.models.data_check import missing, refuse_missing
from jensen.models.frozen import Frozen
from jensen.models.log_density import LogDensity
from jensen.models.numpyro import seeded
from jensen.models.structure import Site, Structure

POINTS = 3
"""Points of the unconstrained space at which the density is evaluated."""


def check_filled(model: Any, structure: Structure, arrays: dict[str, Any], fixed: Frozen) -> None:
    """Raise for NaN in any array except those observed at masked sites and those that the model replaces itself.

    What is observed as it is, is refused at once. For any other array the log density and its gradient are evaluated at
    a few points of the unconstrained space: numbers there are the sign that no NaN reaches them.
    """
    arguments = {**arrays, **fixed.value}
    observed = {site.data_key for site in structure.observed if not site.masked}
    keys = missing(arguments, {site.data_key for site in structure.observed if site.masked} - observed)
    for key in keys:
        if key in observed:
            refuse_missing(arguments, key)
    if not keys:
        return
    density = _plain(model, structure.latents) if isinstance(model, LogDensity) else _program(model)
    if _is_number(density, arrays, fixed.value) == (True, True):
        return
    for key in keys:
        others = [one for one in keys if one != key]
        value, gradient = _is_number(density, _zeroed(arrays, others), _zeroed(fixed.value, others))
        if not (value and gradient):
            refuse_missing(arguments, key, gradient_only=value)


def _is_number(density: Any, arrays: dict[str, Any], fixed: dict[str, Any]) -> tuple[bool, bool]:
    """Whether (the log density, its gradient) hold no NaN at a few points."""
    shapes, value = density
    rng = np.random.default_rng(0)
    latents = traced(lambda given: shapes({**given, **fixed}), arrays)
    points = {name: 0.5 * rng.normal(size=(POINTS, *shape)) for name, shape in latents.items()}
    points = jax.tree.map(lambda p: jnp.asarray(p, jnp.result_type(float)), points)

    def at(given: dict[str, Any], point: dict[str, Any]) -> Any:
        return jax.value_and_grad(lambda u: jnp.asarray(value(u, {**given, **fixed}), float))(point)

    found, slopes = jax.device_get(jax.jit(jax.vmap(at, (None, 0)))(arrays, points))
    return not np.isnan(found).any(), not any(np.isnan(slope).any() for slope in jax.tree.leaves(slopes))


def _program(fn: Callable[..., Any]) -> Any:
    """(shapes of the unconstrained latents, log density of the program at such values)."""

    def run(kwargs: dict[str, Any], place: Callable[[dict[str, Any]], Any]) -> Any:
        return handlers.trace(handlers.substitute(seeded(fn), substitute_fn=place)).get_trace(**kwargs)

    def shapes(kwargs: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}

        def place(site: dict[str, Any]) -> Any:
            value = feasible(site)
            if value is not None and not site["fn"].support.is_discrete:
                found[site["name"]] = biject_to(site["fn"].support).inverse_shape(site["fn"].shape())
            return value

        run(kwargs, place)
        return found

    def value(point: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        def place(site: dict[str, Any]) -> Any:
            if site["name"] in point and site["type"] == "sample":
                return biject_to(site["fn"].support)(point[site["name"]])
            return feasible(site)

        sites = run(kwargs, place).values()
        return sum(jnp.sum(s["fn"].log_prob(s["value"])) for s in sites if s["type"] == "sample")

    return shapes, value


def _plain(model: LogDensity, latents: tuple[Site, ...]) -> Any:
    """The same for a log density."""
    smooth = {site.name: site for site in latents if not site.discrete}
    low = {s.name: jnp.zeros(s.shape, int) + getattr(s.support, "lower_bound", 0) for s in latents if s.discrete}

    def value(point: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        return model.fn({**low, **{n: biject_to(smooth[n].support)(u) for n, u in point.items()}}, **kwargs)

    return lambda kwargs: {name: site.unconstrained_shape for name, site in smooth.items()}, value


def _zeroed(arguments: Mapping[str, Any], keys: list[str], prefix: str = "") -> dict[str, Any]:
    """The arguments with numbers in the place of NaN in these arrays."""
    return {
        name: _zeroed(value, keys, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else np.nan_to_num(value)
        if f"{prefix}{name}" in keys
        else value
        for name, value in arguments.items()
    }
