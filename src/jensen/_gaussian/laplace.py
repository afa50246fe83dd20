"""The Laplace approximation."""

from typing import ClassVar

import equinox as eqx
import numpy as np

from jensen._core import Certificate, Outcome, Progress
from jensen._core.algorithm import Run
from jensen._math import linalg
from jensen._model import Target
from jensen._modes.climbs import Mode, climb, survey
from jensen._modes.continuous import AbstractContinuous


class Laplace(AbstractContinuous):
    """q = N(û, (-∇² log p(x, û))⁻¹) at the highest mode û of the unconstrained log density.

    Exact for Gaussian posteriors. The mode is found by L-BFGS from several starts and polished by Newton steps, the
    Hessian by automatic differentiation. Where it is not negative definite (a ridge, or a density without a maximum)
    the result says so. Tierney and Kadane (1986).

    Args:
        num_starts: climbs from different starting points.
    """

    name: ClassVar[str] = "laplace"
    num_starts: int = eqx.field(static=True, default=8)

    def run(self, target: Target, seed: int) -> Run:
        """Climb, polish, differentiate twice."""
        paths = yield from climb(target, seed, self.num_starts)
        found = survey(target, paths)
        mode = found.mode
        yield Progress("mode", 0, mode.value, mode.gaussian())
        precision = -target.hessian(mode.point)
        restarts = tuple(path.best[1] for path in paths)
        if not linalg.is_positive_definite(precision):
            factor = linalg.regularised_inverse_factor(precision, np.sqrt((mode.factor**2).sum(axis=1)))
            q = Mode(mode.point, mode.value, factor, mode.decrement, False).gaussian()
            status = "The Hessian at the highest point is not negative definite, so there is no Laplace approximation."
            return Outcome(q, False, status, found.certificate(), restarts=restarts)
        factor = linalg.inverse_factor(precision)
        # one exact Newton step removes what is left of the gradient
        _, gradient = target.value_and_grad(mode.point[None])
        step = factor @ (factor.T @ gradient[0])
        decrement = float(gradient[0] @ step)
        polished = Mode(mode.point + step, mode.value, factor, decrement, True)
        fine = decrement < 1e-4
        status = (
            "The mode was found to within rounding."
            if fine
            else (f"The climb stopped short of the mode: a Newton step still promises {decrement / 2:.2g} nats.")
        )
        return Outcome(
            polished.gaussian(),
            fine,
            status,
            found.certificate() | Certificate(decrement=decrement, step_in_sd=float(np.sqrt(max(decrement, 0.0)))),
            restarts=restarts,
        )
