"""Nested approximations q(θ, z) = q(θ) q(z | θ): many latents integrated out for every value of a few others."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx

from jensen._auto.auto import Auto
from jensen._auto.integrated_latents import fitted
from jensen._base.errors import ModelError
from jensen._core.algorithm import Run
from jensen._math.precision import Precision
from jensen._model import build
from jensen._modes.continuous import AbstractContinuous
from jensen._nested import NestedTarget, check_levels, integrated, over_field


class Nested(AbstractContinuous):
    """log p(x, θ) = log ∫ p(x, z, θ) dz, and a Gaussian or what is richer for θ alone.

    What a Gaussian over all latents misses most, that effects spread with their scale, is there, and the verdict is
    about θ. z is drawn given θ afterwards, so that a fit has all latents as ever.

    Groups: latents that fall into groups of one or two (effects of rows or groups, abilities of persons) which are
    independent given the other latents. They are found from the program: no site is named. Each integral is adaptive
    Gauss-Hermite quadrature at the group's conditional mode (Liu and Pierce 1994), which for one latent is that of
    every generalised linear mixed model. The cost of one log density is that of the program at some 30 to 100 points.

    A field: latents that depend on each other (a chain, a map, a Gaussian process) and are nearly Gaussian given the
    other latents. With mode m(θ) and precision H(θ) of the field,

        log p(x, θ) = log p(x, m, θ) - ½ log |H| + D/2 log 2π + log E exp r,

    where r is what the Gaussian misses, over mirrored draws of it (an unbiased likelihood; zero for Gaussian rows).
    H is sparse like the model's own dependence. Its entries are second derivatives of the program's rows, each of a few
    latents. Latents that are independent given the rest are eliminated first (the larger of two crossed plates, leaves
    of nested ones, unstructured effects of a map); the rest is factorised in blocks along a line: O(D) for a chain,
    O(D²) for a map, and in one block up to some 2,000 latents otherwise. A soft sum to zero costs one solution more.
    Draws of z are moved by Hamiltonian trajectories, so that they are of the conditional itself.

    Args:
        nodes: quadrature nodes for each latent of a group; 13 for one latent and 7 for two to begin with if left out.
        field: the site, or the sites, of a field that is to be integrated out instead of groups.
    """

    name: ClassVar[str] = "nested"
    nodes: int | None = eqx.field(static=True, default=None)
    field: str | Sequence[str] = eqx.field(static=True, default=())

    def prepare(self, model: Any, data: Mapping[str, Any] | None, precision: Precision) -> NestedTarget:
        """The density of θ."""
        target = build(model, data, precision)
        if self.field:
            return check_levels(over_field(target, (self.field,) if isinstance(self.field, str) else self.field))
        found = integrated(target, self.nodes)
        if found is None:
            raise ModelError(
                "No latents of this model fall into small groups that are independent given the rest.",
                "Method: nested.",
                "Name latents that are nearly Gaussian given the others, jn.nested(field=...), or use method='auto', "
                "which takes what applies.",
            )
        return found

    def run(self, target: NestedTarget, seed: int) -> Run:
        """As `auto` does for a model whose latents are θ."""
        return (yield from fitted(target, seed, Auto().gaussian))
