"""The checks that products of factors share."""

from jensen.answers.gaussian import CORRECTED
from jensen.core import AbstractCheck
from jensen.diagnostics.checks import Labellings, Modes, Moments, Optimiser, Tails, Weights

FACTORS = {
    "usable": CORRECTED,
    "untrusted": 'Factors of q ignore dependence: join sites that depend on each other, jn.cavi(blocks=(("a", "b"),)), '
    "take method='auto' where all latents are continuous, or run NUTS. Means are often right where sds are not.",
}
NOISE = 0.15
"""Error in sd that corrected means may have: pools of factors are smaller where the data are many."""


def factor_checks(how: str, *, exact: bool = False) -> tuple[AbstractCheck, ...]:
    """Other optima, moments and weights; `how` says on what these are, `exact` that q is the posterior itself."""
    return Modes("optima"), Optimiser(), Moments(NOISE), Weights(how, 0.125, exact), Tails(), Labellings()
