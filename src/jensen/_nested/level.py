"""Fields whose level nothing determines: intrinsic maps without a constraint, whose posterior has no integral.

Where the prior of a site has no curvature along the direction of all ones, data alone determine its level. They do so
less and less as its scale falls, and the integral over the level rises like one over that scale: the density of the log
scale stays level for ever.
"""

from typing import Any

import jax
import numpy as np

from jensen._base.errors import ModelError
from jensen._base.typing import Array
from jensen._core import total
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._nested.field import FieldModel
from jensen._nested.field_target import FieldTarget

FAR, FARTHER, LEVEL = 9.0, 11.0, 0.02
"""Two distances out along a coordinate, and the slope, in nats, up to which a log density is level there."""


def check_levels(target: FieldTarget) -> FieldTarget:
    """The target itself; raises where a site's level is free and some coordinate leaves the log density level."""
    undetermined = _undetermined(target)
    if not undetermined:
        return target
    names, dim = target.coordinate_names(), target.dim
    points = np.concatenate([s * d * np.eye(dim) for s in (1.0, -1.0) for d in (FAR, FARTHER)])
    values, slopes = target.settled().value_and_grad(points)
    values, slopes = values.reshape(2, 2, dim), slopes.reshape(2, 2, dim, dim)
    for way, k in np.ndindex(2, dim):
        apart = abs(values[way, 1, k] - values[way, 0, k])
        if apart < LEVEL * (FARTHER - FAR) and np.abs(slopes[way, :, k, k]).max() < LEVEL:
            site = undetermined[0]
            raise ModelError(
                f"The posterior is improper, so it cannot be normalised: the level of '{site}' is not determined.",
                f"Its prior does not change when the same number is added to all of '{site}', and as '{names[k]}' "
                f"{'falls' if way else 'grows'} (in unconstrained coordinates) the data no longer do.",
                f"Constrain its sum, numpyro.factor('total', dist.Normal(0, 0.001 * n).log_prob({site}.sum())) for n "
                "places, or give it a proper prior.",
            )
    return target


def _undetermined(target: FieldTarget) -> list[str]:
    """Sites of the field along whose ones everything but the data has no curvature."""
    model = target.model
    observed = {site.name for site in target.structure.observed}
    size = len(model.start)
    generic = np.random.default_rng(7).normal(size=(2, size)).astype(model.start.dtype)
    point = np.random.default_rng(8).normal(0.0, 0.7, target.dim).astype(model.start.dtype)
    places = {site.name: where for site, where in model.chart.structure.slices()}
    directions = np.zeros((len(places) + 1, size), model.start.dtype)
    for row, where in enumerate(places.values()):
        directions[row, where] = 1.0
    directions[-1] = generic[1]

    def products(model: FieldModel, point: Array, field: Array, directions: Array) -> Any:
        def prior(field: Array) -> Array:
            latent, _ = model.bijection.forward(point)
            terms = model.base.log_joint({**latent, **model.chart.forward(field)[0]})
            return total({name: term for name, term in terms.items() if name not in observed})

        return jax.vmap(jax.linearize(jax.grad(prior), field)[1])(directions)

    with working(target.precision):
        found = np.abs(np.asarray(Program(products)(model, point, generic[0], directions), float)).max(axis=1)
    return [name for name, one in zip(places, found, strict=False) if one <= 1e-9 * (1e-300 + found[-1])]
