"""Evidence in modes that q does not describe, and renumberings of one mode."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._verdict.limits import lower_limit
from jensen._verdict.verdict import Material

SHARE, VARIANCE = 0.01, 0.1
"""Evidence elsewhere, and what it may add to a variance."""
SURE = 0.999
"""Confidence of the evidence that draws of the prior find."""
UNSEEN = 0.15
"""Chance that one more climb ends at a mode not seen, from which on the modes found are not all there are."""
REMEDY = "Fit again from other seeds and compare, or break the symmetry by an ordered prior."


@dataclass(frozen=True)
class Modes(AbstractCheck):
    """The evidence of modes (of the posterior, or `optima` of the bound) that q does not describe."""

    what: str = "modes"

    def measure(self, material: Material) -> Iterator[Finding]:
        """What the climbs found elsewhere, and how likely it is that they found everything."""
        found = material.certificate
        share, unseen = found.share_elsewhere or 0.0, found.unseen_modes
        covered = share < SHARE and (found.variance_elsewhere or 0.0) < VARIANCE
        covers = "covers one" if unseen is None else "misses them"
        reason = f"Other {self.what} hold about {100 * share:.2g}% of the evidence, and q {covers}."
        yield Finding(
            f"evidence in other {self.what}",
            share,
            f"< {SHARE}, and near",
            covered,
            reason="" if covered else reason,
            remedy=REMEDY,
        )
        if unseen is not None:
            few = unseen < UNSEEN
            reason = (
                f"{unseen:.0%} of the climbs ended at modes that no other climb found, so there are modes that none "
                "did, and how much they hold is unknown."
            )
            yield Finding(
                "chance that a climb ends at a new mode",
                unseen,
                f"< {UNSEEN}",
                few,
                reason="" if few else reason,
                remedy=REMEDY,
            )


class OfPrior(AbstractCheck):
    """Whether draws of the prior find evidence where q does not reach.

    Factors are fitted from starts that may all end in one place, and draws of q see no other. The average likelihood
    under the prior is the evidence whatever q is, and its lower limit holds for weights of any law.
    """

    def measure(self, material: Material) -> Iterator[Finding]:
        """The lower limit of the evidence by these draws against the upper limit by q's."""
        weights = material.answer.prior_weights(material.seed)
        if weights is None or not np.isfinite(weights).any():
            return
        low, high = lower_limit([weights], SURE), material.answer.evidence(material.pool).interval[1]
        share = -float(np.expm1(min(high - low, 0.0)))
        passed = share < SHARE
        reason = f"Draws of the prior find at least {100 * share:.2g}% of the evidence where q does not reach."
        yield Finding(
            "evidence that draws of the prior find elsewhere",
            share,
            f"< {SHARE}",
            passed,
            reason="" if passed else reason,
            remedy=REMEDY,
        )


class Labellings(AbstractCheck):
    """How many equivalent labellings the posterior has, and how many of them the draws of q cover."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """Nothing where there is one."""
        found, copies = material.answer.labellings(material.pool), int(material.certificate.relabelled or 0)
        share = found.share_elsewhere
        if share >= SHARE:
            reason = (
                f"About {100 * share:.2g} % of the evidence is where the states of a latent are renumbered, which are "
                "not interchangeable here, and q does not reach it."
            )
            title = "evidence in other orders of the states"
            yield Finding(title, share, f"< {SHARE}", False, reason=reason, remedy=REMEDY)
        if found.turning:
            dims = float(len(found.rotated) + len(found.turned))
            yield Finding("continuous symmetries", dims, "reported", True, "", note=found.turning)
        if found.log_count:
            count = float(np.exp(min(found.log_count, 700.0)))
            yield Finding("equivalent labellings", count, "reported", True, "", note=found.sentence)
        elif copies:
            note = (
                f"{copies} other start{'s' * (copies > 1)} reached the same bound with the labels permuted; this fit "
                "and its evidence are of one of these optima."
            )
            yield Finding("starts with the labels permuted", float(copies), "reported", True, "", note=note)
