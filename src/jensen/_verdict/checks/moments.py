"""Means and sds of q against importance-corrected ones."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.checks.tails import without_variance
from jensen._verdict.moments import Agreement, flatten
from jensen._verdict.paired import CHANCE
from jensen._verdict.tails import quantiles
from jensen._verdict.verdict import Material

MEAN, RATIO = 0.1, 1.1
"""Tolerances for *trusted*: q's means in sd, and its sd ratio."""
OUTER, STRETCHED = (0.01, 0.99), 1.3
"""Quantiles that are compared where there is no variance, and how far from their median, relative to the corrected
ones, q may have them: twice the noise of 4096 draws of a Student-t with 1.5 degrees of freedom."""
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
        """Means, sds, their own error, a variance that hangs on single draws, and what has none by its quantiles."""
        endless = self._endless(material)
        found = material.agreement_without(endless) if endless else material.agreement
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
        if endless:
            yield far_out(material, endless)

    def _endless(self, material: Material) -> set[str]:
        """The scalars without a variance, where they would matter."""
        found = material.agreement
        fine = found.mean < MEAN and close(found.ratio, RATIO) and found.spread < RATIO - 1.0 and found.tail < TAIL
        return set() if material.clear or (fine and found.error < self.noise) else without_variance(material)


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


def far_out(material: Material, scalars: Collection[str]) -> Finding:
    """Quantiles of these scalars under q against corrected ones, by their distances from the median."""
    table, names = flatten(material.draws)
    columns = [column for column, name in enumerate(names) if name in scalars]
    own = table[: material.pool.half, columns]
    middle, *both = (quantiles(table[:, columns], material.pool.weights, level) for level in (0.5, *OUTER))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack(
            [(np.quantile(own, p, axis=0) - middle) / (q - middle) for p, q in zip(OUTER, both, strict=True)]
        )
        apart = np.nan_to_num(np.abs(np.log(np.abs(ratios))), nan=0.0, posinf=np.inf)
    worst = np.unravel_index(int(apart.argmax()), apart.shape)
    ratio = float(ratios[worst])
    passed = close(ratio, STRETCHED)
    reason = (
        f"The {OUTER[worst[0]]:.0%} point of {names[columns[worst[1]]]} under q is {ratio:.2g} times as far from its "
    )
    reason += "median as the corrected one."
    limit = f"in 1/{STRETCHED}..{STRETCHED}"
    return Finding("far quantiles of q / corrected, worst", ratio, limit, passed, "trusted", "" if passed else reason)


def close(ratio: float, bound: float) -> bool:
    """Whether a ratio is within a factor `bound` of one."""
    return 1.0 / bound <= ratio <= bound
