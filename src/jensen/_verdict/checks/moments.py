"""Means and sds of q against importance-corrected ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.checks.tails import without_variance
from jensen._verdict.moments import Agreement
from jensen._verdict.paired import CHANCE
from jensen._verdict.verdict import Material

MEAN, RATIO = 0.1, 1.1
"""Tolerances for *trusted*: q's means in sd, and its sd ratio."""
TAIL = 0.7
"""Pareto k̂ of the terms of a variance from which on it counts as unknown."""


@dataclass(frozen=True)
class Moments(AbstractCheck):
    """Worst distances of q's means and sds from the corrected ones; `noise` is the error in sd that these may have.

    Fewer draws judge more leniently, up to a point: a difference within its own noise is no finding. Scalars whose
    variance is not finite, which `Tails` names, are not compared in sds.
    """

    noise: float = 0.05

    def measure(self, material: Material) -> Iterator[Finding]:
        """Means, sds, their own error, and a variance that hangs on single draws."""
        found = self._found(material)
        reach = float(np.clip(CHANCE * found.noise, MEAN, 2 * MEAN))
        stretch = float(np.clip(1.0 + CHANCE * found.log_noise, RATIO, 1.2))
        known = bool(np.isfinite(material.pool.khat))
        agree = (
            f"The means of q agree with importance-corrected means within {found.mean:.2g} sd and its sds within "
            f"{100 * abs(found.ratio - 1):.0f} %."
        )
        yield Finding(
            "means of q, distance in sd",
            found.mean,
            f"< {reach:.2g}",
            found.mean < reach,
            "trusted",
            f"The mean of {found.site} under q is {found.mean:.2g} sd from the corrected one."
            if found.mean >= MEAN and known
            else "",
            grounds={"trusted": agree} if found.site else {},
        )
        yield Finding(
            "sd of q / corrected sd, worst",
            found.ratio,
            f"in 1/{stretch:.3g}..{stretch:.3g}",
            close(found.ratio, stretch),
            "trusted",
            f"The sd of {found.ratio_site} under q is {found.ratio:.2g} times the corrected one."
            if not close(found.ratio, RATIO) and known
            else "",
        )
        sure = found.spread < RATIO - 1.0
        yield Finding(
            "corrected sds, relative error",
            found.spread,
            f"< {RATIO - 1.0:.2g}",
            sure,
            "trusted",
            ""
            if sure or not known
            else f"The corrected sd of {found.spread_site}, against which q's is compared, is itself known to "
            f"{min(found.spread, 9.99):.0%} only.",
        )
        # halves differ by 2 errors on average
        precise = found.error < self.noise and found.halves <= 10.0 * found.error
        yield Finding(
            "corrected means, error in sd",
            found.error,
            f"< {self.noise}",
            precise,
            reason="" if precise else "The corrected means are too noisy to confirm q.",
        )
        yield hanging(found, known)

    def _found(self, material: Material) -> Agreement:
        found = material.agreement
        fine = found.mean < MEAN and close(found.ratio, RATIO) and found.spread < RATIO - 1.0 and found.tail < TAIL
        endless = set() if material.clear or (fine and found.error < self.noise) else without_variance(material)
        return material.agreement_without(endless) if endless else found


class Hanging(AbstractCheck):
    """Whether a variance hangs on single draws."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """One line."""
        yield hanging(material.agreement)


def hanging(found: Agreement, known: bool = True) -> Finding:
    """The line about a variance that hangs on single draws, said in words where the weights are `known`."""
    passed = found.tail < TAIL
    reason = (
        f"The variance of {found.tail_site} hangs on single draws (k̂ = {found.tail:.2f}): values that are rare and "
        "large decide it, and its sd is probably too small."
    )
    title = "Pareto k of a variance that hangs on a draw"
    return Finding(title, found.tail, f"< {TAIL}", passed, reason="" if passed or not known else reason)


def close(ratio: float, bound: float) -> bool:
    """Whether a ratio is within a factor `bound` of one."""
    return 1.0 / bound <= ratio <= bound
