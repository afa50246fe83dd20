"""The verdict: several independent checks, said in sentences."""

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from jensen.core import Outcome
from jensen.diagnostics.importance import Pool, weighted_moments
from jensen.diagnostics.kinetic import Drift, drift
from jensen.diagnostics.moments import Agreement, compare
from jensen.families import AbstractGaussian
from jensen.math import linalg
from jensen.models import Target

Verdict = Literal["trusted", "usable", "untrusted"]

_MOVED, _MOVED_HEAVY = 256, 64
"""Draws moved by the Hamiltonian test; fewer where the data are large."""

MEAN, RATIO, DRIFT, ESS, SHARE, VARIANCE = 0.1, 1.1, 0.15, 400.0, 0.01, 0.1
"""Tolerances: q's means in sd and its sd ratio for *trusted*; drift in sd; effective draws for *usable*; evidence
elsewhere."""
TAIL = 0.7
"""Pareto k̂ of the terms of a variance from which on it counts as unknown."""
UNSEEN = 0.15
"""Chance that one more climb ends at a mode not seen, from which on the modes found are not all there are."""


@dataclass(frozen=True)
class Check:
    """One line of the report: what was measured, its value, the threshold, and whether it passed."""

    name: str
    value: float
    threshold: str
    passed: bool


@dataclass(frozen=True)
class Report:
    """The verdict on a fit.

    Attributes:
        verdict: "trusted": q's own draws have the posterior's means within 0.1 sd and sds within 10 %, as far as
            independent checks can see. "usable": q is off, but importance-corrected draws (the default of
            `Fit.sample`) are right.
            "untrusted": neither is established.
        reasons: why, in sentences. remedy: what to do next.
        khat: Pareto k̂ of p/q with khat_interval, its 95 % interval. khat_corrected: that of the corrected weights.
        ess: effective number of corrected draws. checks: the table behind it.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    remedy: str
    khat: float
    khat_interval: tuple[float, float]
    khat_corrected: float
    ess: float
    checks: tuple[Check, ...] = field(default=())

    def __str__(self) -> str:
        words = {"usable": "usable with importance weights"}.get(self.verdict, self.verdict)
        lines = [f"Verdict: {words}"]
        lines += [f"  - {reason}" for reason in self.reasons]
        if self.remedy:
            lines.append(f"  What to do: {self.remedy}")
        lines += [
            f"  {'ok ' if c.passed else 'NO '} {c.name:<38} {c.value:>10.3g}   {c.threshold}" for c in self.checks
        ]
        return "\n".join(lines)

    __repr__ = __str__


def judge(
    target: Target, q: AbstractGaussian, outcome: Outcome, pool: Pool, draws: dict[str, np.ndarray], seed: int
) -> Report:
    """Combine the checks. `draws` are the pool's points on their supports."""
    agreement = compare(draws, pool.weights, {site.name for site in target.structure.latents})
    motion = _motion(target, q, pool, seed)
    limit = min(1.0 - 1.0 / np.log10(pool.half), 0.7)
    share = outcome.certificate.get("share_elsewhere", 0.0)
    covered = share < SHARE and outcome.certificate.get("variance_elsewhere", 0.0) < VARIANCE
    unseen = outcome.certificate.get("unseen_modes", 0.0)
    alone = covered and unseen < UNSEEN
    finite = float(np.isfinite(pool.log_ratios).mean())
    precise = (
        agreement.error < 0.05 and agreement.halves < 10.0 * agreement.error
    )  # halves differ by 2 errors on average
    # Fewer draws judge more leniently, up to a point: a difference within its own noise is no finding.
    reach = float(np.clip(4.5 * np.hypot(agreement.error, pool.half**-0.5), MEAN, 2 * MEAN))
    stretch = float(np.clip(1.0 + 4.5 / np.sqrt(2.0 * min(pool.ess, pool.half)), RATIO, 1.2))
    same = agreement.mean < reach and close(agreement.ratio, stretch)
    interval = (pool.khat_q - 1.96 * pool.khat_q_se, pool.khat_q + 1.96 * pool.khat_q_se)
    stays = motion.shift < DRIFT and motion.spread < 2 * DRIFT and motion.acceptance > 0.3
    mild_k = pool.khat_q < limit or pool.even_q
    corrected_k = pool.khat < limit or pool.even
    checks = (
        Check("optimiser met its stopping rule", float(outcome.converged), "1", outcome.converged),
        Check("Pareto k of p/q", pool.khat_q, f"< {limit:.2f}, or even weights", mild_k),
        Check("means of q, distance in sd", agreement.mean, f"< {reach:.2g}", agreement.mean < reach),
        Check(
            "sd of q / corrected sd, worst",
            agreement.ratio,
            f"in 1/{stretch:.3g}..{stretch:.3g}",
            close(agreement.ratio, stretch),
        ),
        Check("Pareto k of corrected weights", pool.khat, f"< {limit:.2f}, or even weights", corrected_k),
        Check("effective corrected draws", pool.ess, f"> {ESS:.0f}", pool.ess > ESS),
        Check("corrected means, error in sd", agreement.error, "< 0.05", precise),
        Check("Pareto k of a variance that hangs on a draw", agreement.tail, f"< {TAIL}", agreement.tail < TAIL),
        Check("Hamiltonian drift of means, in sd", motion.shift, f"< {DRIFT}", motion.shift < DRIFT),
        Check("Hamiltonian drift of log sds", motion.spread, f"< {2 * DRIFT}", motion.spread < 2 * DRIFT),
        Check("Hamiltonian acceptance", motion.acceptance, "> 0.3", motion.acceptance > 0.3),
        Check("evidence in other modes", share, f"< {SHARE}, and near", covered),
        *_unseen(outcome),
        Check("draws of q with finite density", finite, "> 0.999", finite > 0.999),
        *_linear_response(outcome, q),
    )
    corrected = corrected_k and pool.ess > ESS and precise and agreement.tail < TAIL
    sound = stays and alone and finite > 0.9
    own = outcome.converged and mild_k and same
    verdict: Verdict = (
        "trusted"
        if corrected and sound and own and finite > 0.999
        else "usable"
        if corrected and sound
        else "untrusted"
    )
    reasons = _reasons(verdict, target, outcome, pool, agreement, motion, limit, None if covered else share, finite)
    return Report(
        verdict,
        reasons,
        _remedy(verdict, alone, motion, pool, limit, outcome),
        pool.khat_q,
        interval,
        pool.khat,
        pool.ess,
        checks,
    )


def close(ratio: float, bound: float) -> bool:
    """Whether a ratio is within a factor `bound` of one."""
    return 1.0 / bound <= ratio <= bound


def _motion(target: Target, q: AbstractGaussian, pool: Pool, seed: int) -> Drift:
    count = _MOVED_HEAVY if target.heavy else _MOVED
    start = pool.points[pool.resample(count, seed + 11)]
    mean, factor = np.asarray(q.loc, float), None
    if pool.ess > max(2.0 * target.dim, 100.0) and target.dim <= 1000:
        mean, _, _ = weighted_moments(pool.points, pool.weights)
        centred = (pool.points - mean) * np.sqrt(pool.weights)[:, None]
        covariance = centred.T @ centred
        factor = linalg.cholesky(covariance) if linalg.is_positive_definite(covariance) else None
    if factor is None:
        factor = q.factor() if target.dim <= 1000 else np.diag(q.scales())
    return drift(target, start, mean, factor, seed)


def _linear_response(outcome: Outcome, q: AbstractGaussian) -> tuple[Check, ...]:
    if outcome.linear_response is None:
        return ()
    ratio = float((np.sqrt(np.maximum(np.diag(outcome.linear_response), 0.0)) / q.scales()).max())
    return (Check("linear-response sd / sd of q, worst", ratio, "< 3", ratio < 3),)


def _unseen(outcome: Outcome) -> tuple[Check, ...]:
    if "unseen_modes" not in outcome.certificate:
        return ()
    unseen = outcome.certificate["unseen_modes"]
    return (Check("chance that a climb ends at a new mode", unseen, f"< {UNSEEN}", unseen < UNSEEN),)


def _reasons(
    verdict: Verdict,
    target: Target,
    outcome: Outcome,
    pool: Pool,
    agreement: Agreement,
    motion: Drift,
    limit: float,
    elsewhere: float | None,
    finite: float,
) -> tuple[str, ...]:
    out: list[str] = list(_labelled(outcome))
    names = target.structure.coordinate_names()
    if verdict == "trusted":
        ground = (
            f"k̂ = {pool.khat_q:.2f} lets the correction be believed"
            if pool.khat_q < limit
            else f"importance weights are even ({pool.ess:.0f} effective draws of {len(pool.points)})"
        )
        out.append(
            f"The means of q agree with importance-corrected means within {agreement.mean:.2g} sd and its sds within "
            f"{100 * abs(agreement.ratio - 1):.0f} %, and {ground}."
        )
        out.append(f"{_MOVED_HEAVY if target.heavy else _MOVED} draws did not drift under Hamiltonian steps.")
        return tuple(out)
    if not outcome.converged:
        out.append(f"The optimiser did not certify its answer: {outcome.status}")
    if finite < 0.999:
        out.append(_not_finite(target, pool, finite))
    if pool.khat_q >= limit and not pool.even_q:
        out.append(f"q misses part of the posterior's tails: k̂ = {pool.khat_q:.2f} is above {limit:.2f}.")
    if agreement.mean >= MEAN and np.isfinite(pool.khat):
        out.append(f"The mean of {agreement.site} under q is {agreement.mean:.2g} sd from the corrected one.")
    if not close(agreement.ratio, RATIO) and np.isfinite(pool.khat):
        out.append(f"The sd of {agreement.ratio_site} under q is {agreement.ratio:.2g} times the corrected one.")
    if pool.khat >= limit and not pool.even:
        out.append(f"The importance weights cannot be trusted either: k̂ = {pool.khat:.2f} after correction.")
    if pool.ess <= ESS:
        out.append(f"The correction rests on only {pool.ess:.0f} effective draws of {len(pool.points)}.")
    if agreement.tail >= TAIL and np.isfinite(pool.khat):
        out.append(
            f"The variance of {agreement.tail_site} hangs on single draws (k̂ = {agreement.tail:.2f}): values that are "
            "rare and large decide it, and its sd is probably too small."
        )
    if motion.shift >= DRIFT or motion.spread >= 2 * DRIFT:
        out.append(
            "Draws move away under Hamiltonian steps, which leave the posterior where it is: "
            f"{names[motion.coordinate]} by {motion.shift:.2g} sd, a log sd by {motion.spread:.2g}."
        )
    if motion.acceptance <= 0.3:
        out.append(
            "The posterior's scale changes from place to place: Hamiltonian steps of one size are accepted at only "
            f"{motion.acceptance:.0%}."
        )
    if elsewhere is not None:
        covers = "misses them" if "unseen_modes" in outcome.certificate else "covers one"
        out.append(f"Other modes hold about {100 * elsewhere:.2g}% of the evidence, and q {covers}.")
    unseen = outcome.certificate.get("unseen_modes", 0.0)
    if unseen >= UNSEEN:
        out.append(
            f"{unseen:.0%} of the climbs ended at modes that no other climb found, so there are modes that none did, "
            "and how much they hold is unknown."
        )
    if verdict == "usable":
        out.append(
            f"Importance weights mend it: {pool.ess:.0f} effective draws of {len(pool.points)}, "
            f"k̂ = {pool.khat:.2f} after correction, and the corrected draws do not drift."
        )
    return tuple(out) or ("The corrected means are too noisy to confirm q.",)


def _labelled(outcome: Outcome) -> tuple[str, ...]:
    count = int(outcome.certificate.get("labellings", 1.0))
    if count < 2:
        return ()
    return (
        f"The posterior has {count} equivalent labellings (renumbering its interchangeable states leaves the log "
        f"density as it is); this fit describes one of them, and its bound on the evidence leaves out log {count} = "
        f"{np.log(count):.2f} nats.",
    )


def _not_finite(target: Target, pool: Pool, finite: float) -> str:
    bad = pool.points[: pool.half][~np.isfinite(pool.log_ratios)]
    terms = target.terms(bad[0])
    sites = [name for name, term in terms.items() if not np.isfinite(term).all()]
    named = f" (site {', '.join(sites)})" if sites else ""
    return f"{1 - finite:.1%} of the draws from q have a log density that is not finite{named}."


def _remedy(verdict: Verdict, alone: bool, motion: Drift, pool: Pool, limit: float, outcome: Outcome) -> str:
    if verdict == "trusted":
        return ""
    if verdict == "usable":
        return "Use `sample`, `summary` and `to_arviz` as they are (they are corrected by default), not q itself."
    if not alone:
        return "Fit again from other seeds and compare, break the symmetry by an ordered prior, or run NUTS."
    if outcome.certificate.get("interrupted"):
        return "Let the fit run to its end."
    if motion.acceptance <= 0.3 or motion.spread >= 2 * DRIFT:
        return (
            "Write hierarchical scales non-centred (numpyro.infer.reparam.LocScaleReparam), fit with "
            "method=jn.advi(family='full_rank'), or run NUTS."
        )
    return "Fit with method=jn.advi(family='full_rank'), write hierarchical scales non-centred, or run NUTS."


def as_dict(report: Report) -> dict[str, Any]:
    """A JSON-ready form."""
    return {
        "verdict": report.verdict,
        "reasons": list(report.reasons),
        "remedy": report.remedy,
        "khat": report.khat,
        "khat_interval": list(report.khat_interval),
        "khat_corrected": report.khat_corrected,
        "ess": report.ess,
        "checks": [vars(check) for check in report.checks],
    }


def from_dict(data: dict[str, Any]) -> Report:
    """The inverse of `as_dict`."""
    return Report(
        data["verdict"],
        tuple(data["reasons"]),
        data["remedy"],
        data["khat"],
        cast(tuple[float, float], tuple(data["khat_interval"])),
        data["khat_corrected"],
        data["ess"],
        tuple(Check(**check) for check in data["checks"]),
    )
