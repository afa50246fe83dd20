"""The log density over R^d of the latents that a conjugate model leaves when others are integrated out exactly."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from jensen._base.typing import Flat, Latent, PRNGKey, Terms, leaf
from jensen._conjugate.coordinate.collapse import Collapse
from jensen._model import Target
from jensen._model.numpyro import NumPyroModel
from jensen._model.reduced_density import AbstractReduced, computed, without
from jensen._program.bijection import AbstractChart, SiteBijection


class CollapsedModel(AbstractReduced):
    """log p(x, g) in closed form, as `plan` says; what left is drawn from its exact conditional given g.

    Attributes:
        bijection: the chart of g. base: the program. arrays: what the energy is computed from.
        computed: deterministic sites that depend on what left.
    """

    bijection: AbstractChart
    base: NumPyroModel
    arrays: Any
    plan: Collapse = eqx.field(static=True)
    computed: tuple[str, ...] = eqx.field(static=True)

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """One number: the model does not say which site it belongs to."""
        del batch
        return {"all sites": self.plan.log_joint(latent, self.arrays)}

    def complete(self, point: Flat, key: PRNGKey) -> Latent:
        """g at u, one draw of what left, and all deterministic sites."""
        latent, _ = self.bijection.forward(point)
        model, drawn = self.plan.model, {}
        for i, (name, natural) in enumerate(self.plan.conditionals(latent, self.arrays).items()):
            values = model.factor(name, natural).draw(jax.random.fold_in(key, i))
            drawn |= dict(zip(model.blocks[name].sites, values, strict=True))
        return self.whole({**latent, **drawn})


def collapsed_density(density: Target, plan: Collapse) -> Target | None:
    """`density`, over all latents, with the blocks of a plan integrated out; `None` where that is not exact."""
    base, chart, model = density.model.handled, density.model.bijection, plan.model
    if not plan.exact or base is None or type(chart) is not SiteBijection:
        return None
    out = tuple(site for name in plan.out for site in model.blocks[name].sites)
    reduced = without(density.structure, out)
    bounds = {name: bound for name, bound in chart.bounds.items() if name not in out}
    arrays = tuple(leaf(np.asarray(array)) for array in model.energy.arrays)
    left = SiteBijection(reduced, bounds)
    found = CollapsedModel(base=base, bijection=left, arrays=arrays, plan=plan, computed=computed(density, out))
    target = Target(found, reduced, density.precision)
    leaving = sum(int(np.prod(shape)) for name in plan.out for shape in model.blocks[name].shapes.values())
    target.costs(target.elements, leaves=leaving)
    return target
