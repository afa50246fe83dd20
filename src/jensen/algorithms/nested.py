"""Nested approximations q(θ, z) = q(θ) q(z | θ): independent groups of latents integrated out for every θ."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx

from jensen._errors import ModelError
from jensen.algorithms.auto import Auto
from jensen.algorithms.continuous import AbstractContinuous
from jensen.algorithms.integrating import fitted
from jensen.core.algorithm import Run
from jensen.math.precision import Precision
from jensen.models import build
from jensen.models.nested import NestedTarget, integrated


class Nested(AbstractContinuous):
    """log p(x, θ) = Σ_g log ∫ p(x_g, z_g | θ) dz_g by quadrature, and a Gaussian or what is richer for θ alone.

    For latents that fall into groups of one or two (effects of rows or groups, abilities of persons) which are
    independent given the other latents θ. They are found from the program: no site is named. What a Gaussian over all
    latents misses most, that effects spread with their scale, is exact here, and the verdict is about θ.

    Each integral is adaptive Gauss-Hermite quadrature at the group's conditional mode (Liu and Pierce 1994), which for
    one latent is that of every generalised linear mixed model. The cost of one log density is that of the program at
    some 30 to 100 points.

    Args:
        nodes: quadrature nodes for each latent of a group; 13 for one latent and 7 for two to begin with if left out.
    """

    name: ClassVar[str] = "nested"
    nodes: int | None = eqx.field(static=True, default=None)

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> NestedTarget:
        """The density of θ."""
        found = integrated(build(model, data, precision), self.nodes)
        if found is None:
            raise ModelError(
                "No latents of this model fall into small groups that are independent given the rest.",
                "Method: nested.",
                "Use method='auto', which takes what applies.",
            )
        return found

    def run(self, target: NestedTarget, seed: int) -> Run:
        """As `auto` does for a model whose latents are θ."""
        return (yield from fitted(target, seed, Auto().gaussian))
