"""How the gradient in one factor of a product is estimated."""

from typing import ClassVar

import equinox as eqx

from jensen._base.errors import OptionError
from jensen._estimators.baseline import AbstractBaseline, LeaveOneOut
from jensen._estimators.credit import AbstractCredit, Whole
from jensen._estimators.regression import least_draws
from jensen._families.native import AbstractFactor
from jensen._program.dependence import Links


class AbstractRecipe(eqx.Module):
    """How the gradient in one factor is estimated."""

    linear_only: eqx.AbstractClassVar[bool]

    @property
    def averages(self) -> Links | None:
        """With which the neighbours' draws are averaged out of the terms; `None` where they are left as drawn."""
        return getattr(self, "neighbours", None)

    def least(self, factor: AbstractFactor) -> int:
        """Draws that it needs."""
        del factor
        return 1


class Reparameterised(AbstractRecipe):
    """Differentiates through the draw; `stick` leaves out the score part, `exact_entropy` uses the closed form.

    With `controls` (and one of the two) the scores of each row are regressed out; see
    `jensen._estimators.regression.controlled`. With `neighbours`, links of the log joint, the noise of other latents'
    draws is taken out as far as it is interpolated by their statistics; see `jensen._estimators.neighbours.averaged`.
    """

    linear_only: ClassVar[bool] = False
    stick: bool = eqx.field(static=True, default=False)
    exact_entropy: bool = eqx.field(static=True, default=False)
    controls: bool = eqx.field(static=True, default=False)
    neighbours: Links | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.controls and not (self.stick or self.exact_entropy):
            raise OptionError(
                "Controls are for gradients that come through the draws alone.",
                "Option: controls of Reparameterised.",
                "Add stick=True, or exact_entropy=True where there is a closed form.",
            )

    def least(self, factor: AbstractFactor) -> int:
        """Enough for the other draws to determine the coefficients, if there are any."""
        return least_draws(factor, scores_only=True) if self.controls else 1


class Scored(AbstractRecipe):
    """The score function with a credit and a baseline."""

    linear_only: ClassVar[bool] = False
    credit: AbstractCredit = Whole()
    baseline: AbstractBaseline = LeaveOneOut()

    def least(self, factor: AbstractFactor) -> int:
        """That of the baseline."""
        del factor
        return self.baseline.least


class Regressed(AbstractRecipe):
    """The score function with several zero-mean controls; see `jensen._estimators.regression`.

    With `neighbours`, links of the log joint, the noise of other latents' draws is taken out first; see
    `jensen._estimators.neighbours.averaged`.
    """

    linear_only: ClassVar[bool] = True
    credit: AbstractCredit = Whole()
    neighbours: Links | None = eqx.field(static=True, default=None)

    def least(self, factor: AbstractFactor) -> int:
        """Enough for the other draws to determine the coefficients."""
        return least_draws(factor)


class Expected(AbstractRecipe):
    """Local expectation: every value of a small support is looked at, the other latents being drawn.

    ∇L = Σ_k ∇q(k) E[log p(x, z_j = k, z_-j) - log q_j(k)] (Titsias and Lázaro-Gredilla 2015, equation 9). With links
    that show the rows to be independent given the rest, all rows change together and the cost is K evaluations, and
    other factors' gradients see the expectation instead of the draw; else it is K evaluations for each row.
    """

    linear_only: ClassVar[bool] = True
    links: Links | None = eqx.field(static=True, default=None)


__all__ = ["AbstractRecipe", "Expected", "Regressed", "Reparameterised", "Scored"]
