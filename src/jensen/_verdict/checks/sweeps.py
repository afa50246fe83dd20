"""Whether q's own draws reach the posterior, and whether the chains that were started from them mix."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.checks.mixing import APART, FEW
from jensen._verdict.verdict import Material


class Sweeps(AbstractCheck):
    """Pareto k̂ of p/q, r̂ of the chains and their effective draws."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """Three lines."""
        answer: Any = material.answer
        pool, limit = material.pool, material.limit
        mild = pool.khat_q < limit or pool.even_q
        reason = "" if mild else f"q misses part of the posterior: k̂ = {pool.khat_q:.2f} is above {limit:.2f}."
        yield Finding("Pareto k of p/q", pool.khat_q, f"< {limit:.2f}, or even weights", mild, "trusted", reason)
        rhat, effective = answer.mixed
        names = answer.columns_named()
        worst, fewest = float(rhat.max()), float(effective.min())
        slow, rare = names[int(np.argmax(rhat))], names[int(np.argmin(effective))]
        mixed = worst < APART
        reason = "" if mixed else f"The chains do not agree on {slow}: r̂ = {worst:.3f}."
        grounds = f"Gibbs sweeps from draws of q mend it: {len(answer.points)} chains agree, r̂ = {worst:.3f} at most."
        yield Finding("r̂ of chains", worst, f"< {APART}", mixed, reason=reason, grounds={"usable": grounds})
        enough = fewest >= FEW
        counted = f"{fewest:.0f} effective draws of {rare}"
        yield Finding(
            "effective draws of chains",
            fewest,
            f"> {FEW:.0f}",
            enough,
            reason="" if enough else f"The chains are worth only {counted}.",
            grounds={"usable": f"They are worth at least {fewest:.0f} draws of every latent."},
        )
