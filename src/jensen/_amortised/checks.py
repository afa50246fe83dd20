"""An amortised fit: its rows, each weighed by itself, and what they share."""

from collections.abc import Iterator
from dataclasses import dataclass

from jensen._amortised.rows import RowStatistics, SharedMoments
from jensen._core import AbstractCheck, Finding
from jensen._verdict.checks.moments import MEAN, RATIO, close
from jensen._verdict.verdict import Material

HEAVY = 0.05
"""Share of rows whose weights may be heavy-tailed."""
GAP = 0.05
"""Nats a row that the encoder may give away."""
EFFECTIVE = 100.0
"""Effective draws of what rows share, or a fifth of them if that is less."""
KHAT = 0.7


@dataclass(frozen=True)
class Rows(AbstractCheck):
    """Weights and moments of a sample of rows, the amortisation gap, and posterior collapse."""

    rows: RowStatistics

    def measure(self, material: Material) -> Iterator[Finding]:
        """The weights first, without which nothing holds."""
        rows = self.rows
        few, spread, finite = rows.heavy < HEAVY, rows.ess > 0.05, rows.finite > 0.999
        heavy = "" if few else f"The weights of {rows.heavy:.0%} of the rows are heavy-tailed (k̂ > 0.7)."
        yield Finding("rows with heavy-tailed weights", rows.heavy, f"< {HEAVY}", few, reason=heavy)
        yield Finding("effective share of a row's draws", rows.ess, "> 0.05", spread)
        yield Finding("draws of q with finite density", rows.finite, "> 0.999", finite)
        yield self._gap()
        yield from self._moments()
        if rows.dim and material.outcome.estimates is not None:
            yield self._collapse()

    def _gap(self) -> Finding:
        rows = self.rows
        closed = rows.gap - 2.0 * rows.gap_se < GAP
        return Finding(
            "amortisation gap, nats a row",
            rows.gap,
            f"< {GAP}",
            closed,
            "trusted",
            remedy="" if closed else "A larger encoder, or infer(..., refine=True), closes the amortisation gap.",
            note=f"On {rows.number} rows the encoder gives away {rows.gap:.3g} ± {rows.gap_se:.2g} nats a row against "
            "factors fitted to each row (amortisation gap).",
        )

    def _moments(self) -> Iterator[Finding]:
        rows = self.rows
        words = (
            f"agree with importance-corrected ones within {rows.mean:.2g} sd and its sds within "
            f"{100 * (rows.ratio - 1):.0f} %"
            if rows.mean < MEAN and rows.ratio < RATIO
            else f"are {rows.mean:.2g} sd from importance-corrected ones, its sds off by a factor {rows.ratio:.2g}"
        )
        note = f"Row by row the means of q {words} (root mean square)."
        yield Finding(
            "means of q by row, rms distance in sd", rows.mean, f"< {MEAN}", rows.mean < MEAN, "trusted", note=note
        )
        yield Finding("sds of q by row, rms factor", rows.ratio, f"< {RATIO}", rows.ratio < RATIO, "trusted")

    def _collapse(self) -> Finding:
        rows = self.rows
        reason = (
            f"None of the {rows.dim} coordinates says anything of its row: q is the same for all (posterior collapse), "
            "and the learned parameters make no use of the latents."
        )
        return Finding(
            "coordinates that say something of their row",
            float(rows.active),
            "> 0",
            not rows.collapsed,
            "trusted",
            reason if rows.collapsed else "",
            "Fit again with another seed, fewer latents, or a decoder that needs them.",
        )


@dataclass(frozen=True)
class SharedOfRows(AbstractCheck):
    """Weights and moments of what rows share."""

    shared: SharedMoments

    def measure(self, material: Material) -> Iterator[Finding]:
        """Three lines."""
        pool, shared = material.pool, self.shared
        enough = pool.ess > min(EFFECTIVE, 0.2 * pool.half)
        fine = (pool.khat < KHAT or pool.even) and enough
        yield Finding(
            "Pareto k of shared latents' weights",
            pool.khat,
            f"< {KHAT}, or even",
            fine,
            reason=""
            if fine
            else f"The weights of the shared latents cannot be trusted: k̂ = {pool.khat:.2f}, {pool.ess:.0f} effective "
            "draws.",
        )
        apart = (
            f"Of the shared latents a mean under q is {shared.mean:.2g} sd from the corrected one, an sd "
            f"{shared.ratio:.2g} times as large."
        )
        near, even = shared.mean < shared.reach, close(shared.ratio, shared.stretch)
        yield Finding(
            "shared latents, means of q, in sd",
            shared.mean,
            f"< {shared.reach:.2g}",
            near,
            "trusted",
            "" if near else apart,
        )
        limit = f"in 1/{shared.stretch:.3g}..{shared.stretch:.3g}"
        yield Finding(
            "shared latents, sd of q / corrected", shared.ratio, limit, even, "trusted", "" if even else apart
        )
