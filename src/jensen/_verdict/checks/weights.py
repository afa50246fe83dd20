"""Importance weights: whether q reaches the posterior, and whether its corrected draws can be believed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.verdict import ESS, Material


@dataclass(frozen=True)
class Weights(AbstractCheck):
    """Pareto k̂ of p/q and of the corrected weights, and the effective number of corrected draws.

    `how` says in words on what the weights are, `share` what part of small pools is enough effective draws, `exact`
    that q is the posterior itself, and has no weights.
    """

    how: str = ""
    share: float = 1.0
    exact: bool = False

    def measure(self, material: Material) -> Iterator[Finding]:
        """Three lines."""
        pool, limit = material.pool, material.limit
        how = f" ({self.how})" if self.how else ""
        # Even corrected weights settle the moments of q by themselves, whatever the shape of q's own tail.
        mild, level = pool.khat_q < limit or pool.even_q or pool.even, pool.khat < limit or pool.even
        wanted, number = f"< {limit:.2f}, or even weights", f"{pool.ess:.0f} effective draws of {len(pool.points)}"
        kind = f"mild (k̂ = {pool.khat_q:.2f})" if pool.khat_q < limit else f"even ({number})"
        yield Finding(
            "Pareto k of p/q",
            pool.khat_q,
            wanted,
            mild,
            "trusted",
            "" if mild else f"q misses part of the posterior: k̂ = {pool.khat_q:.2f} is above {limit:.2f}{how}.",
            grounds={
                "trusted": "q is one block, the exact posterior."
                if self.exact
                else f"Importance weights{how} are {kind}."
            },
        )
        yield Finding(
            "Pareto k of corrected weights",
            pool.khat,
            wanted,
            level,
            reason=""
            if level
            else f"The importance weights cannot be trusted either: k̂ = {pool.khat:.2f} after correction.",
        )
        least = min(ESS, self.share * len(pool.weights))
        enough = pool.ess > least
        yield Finding(
            "effective corrected draws",
            pool.ess,
            f"> {least:.0f}",
            enough,
            reason="" if enough else f"The correction rests on only {number}.",
            grounds={"usable": f"Importance weights mend it{how}: {number}, k̂ = {pool.khat:.2f} after correction."},
        )


class FiniteDensity(AbstractCheck):
    """The share of q's draws at which the log density is finite."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """One line; below nine in ten nothing can be believed."""
        pool = material.pool
        finite = float(np.isfinite(pool.log_ratios).mean())
        passed = finite > 0.999
        yield Finding(
            "draws of q with finite density",
            finite,
            "> 0.999",
            passed,
            "trusted" if finite > 0.9 else "usable",
            "" if passed else self._named(material, finite),
        )

    def _named(self, material: Material, finite: float) -> str:
        pool = material.pool
        bad = pool.points[: pool.half][~np.isfinite(pool.log_ratios)]
        terms = getattr(material.target, "terms", None)  # of a density over R^D
        sites = [name for name, term in terms(bad[0]).items() if not np.isfinite(term).all()] if terms else ()
        named = f" (site {', '.join(sites)})" if sites else ""
        return f"{1 - finite:.1%} of the draws from q have a log density that is not finite{named}."
