"""Whether chains have forgotten where they began, and how many draws they are worth."""

from collections.abc import Iterator

import numpy as np

from jensen._core import AbstractCheck, Finding
from jensen._math.mixing import RHAT, mixing
from jensen._verdict.verdict import Material

APART, ENOUGH, FEW = 1.05, 400.0, 100.0
"""r̂ above which nothing can be believed; effective draws for *trusted*, and for *usable*."""
DIVERGED = 1e-3
"""Share of draws that may end a diverging trajectory."""
MISSED = "trajectories diverged: the chains may not reach where the posterior is narrow."


class Mixing(AbstractCheck):
    """r̂, effective draws, divergences, and how far the approximation before was off."""

    def measure(self, material: Material) -> Iterator[Finding]:
        """Five lines."""
        chains = material.answer.outcome.q
        rhat, effective = mixing(np.asarray(chains.points))
        worst, fewest = float(rhat.max()), float(effective.min())
        names = material.answer.structure.coordinate_names()
        slow = names[int(np.argmax(rhat))]
        again = "Draw on: refine(num_draws=...), with twice as many; chains that stay apart are in different modes."
        grounds = f"The chains agree: r̂ = {worst:.3f} at most."
        yield Finding(
            "r̂ of chains",
            worst,
            f"< {RHAT}",
            worst < RHAT,
            "trusted",
            "" if worst < RHAT else f"The chains do not agree on {slow}: r̂ = {worst:.3f}.",
            again,
            grounds={"trusted": grounds, "usable": grounds if worst < RHAT else ""},
        )
        yield Finding("r̂ of chains, at worst", worst, f"< {APART}", worst < APART)
        counted = f"{fewest:.0f} effective draws of {names[int(np.argmin(effective))]}"
        yield Finding(
            "effective draws of chains",
            fewest,
            f"> {ENOUGH:.0f}",
            fewest >= ENOUGH,
            "trusted",
            "" if fewest >= ENOUGH else f"There are only {counted}.",
            again,
            grounds={"trusted": f"At least {fewest:.0f} effective draws of every coordinate."},
        )
        yield Finding("effective draws of chains, at worst", fewest, f"> {FEW:.0f}", fewest >= FEW)
        share = float(chains.divergences) / len(chains.flat)
        yield Finding(
            "share of divergences",
            share,
            f"< {DIVERGED}",
            share < DIVERGED,
            "trusted",
            "" if share < DIVERGED else f"{int(chains.divergences)} {MISSED}",
            "Write hierarchical scales non-centred (numpyro.infer.reparam.LocScaleReparam).",
        )
        points = chains.flat
        off = float((np.abs(points.mean(axis=0) - chains.mean) / np.maximum(points.std(axis=0), 1e-300)).max())
        yield Finding("mean of the q before, in sd", off, "reported", True, "")
