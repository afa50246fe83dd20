"""Non-centred coordinates: effects measured from their own location, in units of their own scale."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.util import sum_rightmost
from numpyro.ops.provenance import eval_provenance

from jensen._base.typing import Array, Flat, Latent, Scalar, Terms
from jensen._math.precision import float_type, working
from jensen._model import Target
from jensen._model.numpyro import NumPyroModel
from jensen._nested import NestedModel
from jensen._program.analysis import placeholders, traced
from jensen._program.bijection import AbstractChart, SiteBijection
from jensen._program.number_widths import seeded
from jensen._program.static_arguments import Frozen
from jensen._program.structure import Structure


class NonCentred(AbstractChart):
    """u = m + s^(1 - c) (v - c m) for sites with location m and scale s: where u ~ N(m, s), v ~ N(c m, s^c).

    c = 1 is the model's own chart, c = 0 the non-centred one, and every element has its own (Papaspiliopoulos, Roberts
    and Sköld 2007; Gorinova, Moore and Hoffman 2020). m and s may be any functions of latents further up, so the
    program is run for them, site after site. A vector with location m and triangular factor L has u = m + L v, or u = v
    where the mean of its c is above a half. All other sites keep their charts.

    Whatever m and s are, this is a bijection of R^D with its Jacobian in every density: how well they describe the
    prior decides how simple the density over v is, and nothing else. A moved site's prior is evaluated at its offset
    u - m = s^(1 - c) (v - c m) as that stands: found from u and m it would be 0 for an s below the spacing of
    floating-point numbers around m, and the Jacobian would rise with nothing against it.

    Attributes:
        structure, bounds: those of `inner`, the chart of each site by itself.
        centred: site -> c, of the site's unconstrained shape.
        data, fn, fixed: the program and its arguments, as in `NumPyroModel`.
    """

    structure: Structure = eqx.field(static=True)
    bounds: dict[str, Any]
    inner: SiteBijection
    centred: dict[str, Array]
    data: dict[str, Any]
    fn: Callable[..., Any] = eqx.field(static=True)
    fixed: Frozen = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """D."""
        return self.inner.dim

    def _where(self, name: str) -> slice:
        start = self.structure.offsets[name]
        return slice(start, start + self.structure.sites[name].size)

    def forward(self, point: Flat) -> tuple[Latent, Scalar]:
        """z and log |det ∂z/∂v|."""
        return self.placed(point)[:2]

    def placed(self, point: Flat) -> tuple[Latent, Scalar, Terms]:
        """z, log |det ∂z/∂v| and the log prior of every moved site at its offset."""
        extra: list[Scalar] = []
        priors: Terms = {}
        moved: dict[str, Array] = {}

        def place(site: dict[str, Any]) -> Any:
            name = site["name"]
            if name not in self.centred or site["type"] != "sample":
                return _stand_in(site)
            place = location_scale(site["fn"])
            offset, log_det = _moved(place, point[self._where(name)], self.centred[name])
            moved[name] = value = place[0] + offset  # type: ignore[index]
            extra.append(log_det)
            prior = _at_offset(site["fn"], value, offset)
            priors[name] = prior if site["scale"] is None else site["scale"] * prior
            return biject_to(site["fn"].support)(value)

        known, _ = self.inner.forward(point)
        rest = {name: value for name, value in known.items() if name not in self.centred}
        self._trace(place, rest)
        for name, value in moved.items():
            point = point.at[self._where(name)].set(jnp.reshape(value, -1))
        latent, log_det = self.inner.forward(point)
        return latent, log_det + sum(extra, start=jnp.zeros(())), priors

    def inverse(self, latent: Latent) -> tuple[Flat, Scalar]:
        """v and log |det ∂z/∂v| at v."""
        point, log_det = self.inner.inverse(latent)
        trace = self._trace(_stand_in, {name: latent[name] for name in self.structure.offsets})
        for name, centred in self.centred.items():
            where = self._where(name)
            value, own = _moved_back(location_scale(trace[name]["fn"]), point[where], centred)
            point, log_det = point.at[where].set(jnp.reshape(value, -1)), log_det + own
        return point, log_det

    def _trace(self, place: Callable[[dict[str, Any]], Any], known: Latent) -> dict[str, Any]:
        program = handlers.substitute(handlers.substitute(seeded(self.fn), substitute_fn=place), data=known)
        return handlers.trace(program).get_trace(**self.data, **self.fixed.value)


def noncentred(target: Target, centred: dict[str, Any] | None = None) -> Target | None:
    """The same density in non-centred coordinates; `None` where no site has a scale that depends on latents.

    `centred` gives c by site; left out, every site that can be is non-centred throughout. Evaluations go on counting.
    Where groups of latents are integrated out, the others may be; a surface that stands for a density has coordinates
    of its own.
    """
    model = target.model
    base = model.base if isinstance(model, NestedModel) else model.handled
    if base is None or target.subsample is not None or target.origin is not target:
        return None
    chart = model.bijection.inner if isinstance(model.bijection, NonCentred) else model.bijection
    sites = target.structure.sites
    if centred is None:
        with working(target.precision):
            names = movable(base, target.structure)
            centred = {name: np.zeros(sites[name].unconstrained_shape) for name in names}
    if not (centred and isinstance(chart, SiteBijection)):  # it is of one rotation
        return None
    dtype = float_type(target.precision)
    leaves: dict[str, Any] = {name: np.asarray(value, dtype) for name, value in centred.items()}
    found = copy.copy(target)
    program = {"data": base.data, "fn": base.fn, "fixed": base.fixed}
    moved = NonCentred(structure=chart.structure, bounds=chart.bounds, inner=chart, centred=leaves, **program)
    found.model = dataclasses.replace(model, bijection=moved)
    return found


def centring(target: Target) -> dict[str, Any]:
    """Site -> c of the target's coordinates; empty where they are the model's own."""
    chart = target.model.bijection
    return chart.centred if isinstance(chart, NonCentred) else {}


def movable(model: NumPyroModel, structure: Structure) -> tuple[str, ...]:
    """Sites of `structure` with a location and a scale that depends on latents, all of them there and continuous.

    Where only the location depends on latents, a Gaussian with correlations has nothing to gain.
    """
    latents = placeholders(model.bijection.structure)

    def places(given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def look(site: dict[str, Any]) -> Any:
            within_scan = "_scan_current_index" in site.get("infer", {})
            if site["type"] == "sample" and site["name"] in structure.offsets and not within_scan:
                place = location_scale(site["fn"])
                if place is not None:
                    found[site["name"]] = tuple(jnp.asarray(part) for part in place)
            return None

        program = handlers.substitute(handlers.substitute(seeded(model.fn), substitute_fn=look), data=values)
        handlers.trace(program).get_trace(**given, **model.fixed.value)
        return found

    provenance = traced(lambda given: eval_provenance(lambda **values: places(given, values), **latents), model.data)
    return tuple(
        name
        for name in structure.offsets
        if name in provenance and provenance[name][1] and frozenset().union(*provenance[name]) <= set(structure.offsets)
    )


def location_scale(fn: Any) -> tuple[Any, Any] | None:
    """(m, s) of a distribution's unconstrained coordinates, or (m, L) with a triangular factor; `None` if it has none.

    On the real line those of Normal, Student-t, Laplace and the like; of a log-normal those of its logarithm.
    """
    base: Any = fn
    while isinstance(base, (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
        base = base.base_dist
    if isinstance(base, dist.MultivariateNormal):
        factor: Any = base.scale_tril
        return jnp.broadcast_to(base.loc, fn.shape()), jnp.broadcast_to(factor, fn.shape() + factor.shape[-1:])
    if isinstance(base, dist.TransformedDistribution):
        logged = len(base.transforms) == 1 and isinstance(base.transforms[0], dist.transforms.ExpTransform)
        base = base.base_dist if logged else None
        while isinstance(base, (dist.Independent, dist.ExpandedDistribution)):
            base = base.base_dist
    if base is None or base.support is not constraints.real or not {"loc", "scale"} <= set(base.arg_constraints):
        return None
    return jnp.broadcast_to(base.loc, fn.shape()), jnp.broadcast_to(base.scale, fn.shape())


def _moved(place: Any, flat: Array, centred: Array) -> tuple[Array, Scalar]:
    """U - m and log |det ∂u/∂v|."""
    loc, scale = place
    value = jnp.reshape(flat, jnp.shape(centred))
    if jnp.ndim(scale) == value.ndim:
        log_scale = (1.0 - centred) * jnp.log(scale)
        return jnp.exp(log_scale) * (value - centred * loc), jnp.sum(log_scale)
    stays, log_det = _of_a_vector(scale, centred)
    offset: Any = jnp.where(stays, value - loc, jnp.einsum("...ij,...j->...i", scale, value))
    return offset, log_det


def _at_offset(fn: Any, value: Array, offset: Array) -> Array:
    """The log density of a site with location and scale, given u and u - m, as `log_prob` is of its value."""
    if isinstance(fn, dist.Independent):
        return sum_rightmost(_at_offset(fn.base_dist, value, offset), fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.ExpandedDistribution):
        return _at_offset(fn.base_dist, value, offset)
    if isinstance(fn, dist.MaskedDistribution):
        return jnp.where(fn._mask, _at_offset(fn.base_dist, value, offset), 0.0)
    if isinstance(fn, dist.TransformedDistribution):
        return _at_offset(fn.base_dist, value, offset) - value  # only that of a logarithm has a location and a scale
    about_zero: Any = copy.copy(fn)
    about_zero.loc = jnp.zeros_like(fn.loc)
    return about_zero.log_prob(offset)


def _moved_back(place: Any, flat: Array, centred: Array) -> tuple[Array, Scalar]:
    """V and log |det ∂u/∂v|."""
    loc, scale = place
    value = jnp.reshape(flat, jnp.shape(centred))
    if jnp.ndim(scale) == value.ndim:
        log_scale = (1.0 - centred) * jnp.log(scale)
        return centred * loc + jnp.exp(-log_scale) * (value - loc), jnp.sum(log_scale)
    stays, log_det = _of_a_vector(scale, centred)
    whitened = jax.scipy.linalg.solve_triangular(scale, (value - loc)[..., None], lower=True)
    back: Any = jnp.where(stays, value, jnp.squeeze(whitened, -1))
    return back, log_det


def _of_a_vector(factor: Array, centred: Array) -> tuple[Array, Scalar]:
    """(which vectors stay as they are, (..., 1); Σ log |det L| of the others)."""
    stays = jnp.mean(centred, axis=-1, keepdims=True) > 0.5
    log_dets = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1, keepdims=True)
    return stays, jnp.sum(jnp.where(stays, 0.0, log_dets))


def _stand_in(site: dict[str, Any]) -> Any:
    """Zero for a discrete latent that was summed out: no location or scale depends on it."""
    latent = site["type"] == "sample" and not site["is_observed"] and site["value"] is None
    if not latent or "_scan_current_index" in site["infer"] or not site["fn"].support.is_discrete:
        return None
    return jnp.zeros(site["fn"].shape(), int)
