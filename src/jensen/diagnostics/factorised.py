"""The verdict on a product of factors whose moments are known exactly."""

import numpy as np

from jensen.core import Outcome
from jensen.diagnostics.check import ESS, MEAN, RATIO, SHARE, Check, Report, Verdict, close
from jensen.diagnostics.importance import Pool, weighted_moments
from jensen.diagnostics.moments import flatten

DISCRETE = 0.5
"""The least sd that a discrete latent is measured by: that of a fair coin."""

Moments = dict[str, tuple[np.ndarray, np.ndarray]]


def judge(
    outcome: Outcome,
    pool: Pool,
    draws: dict[str, np.ndarray],
    exact: Moments,
    sites: tuple[list[str], list[str]],
    ranges: dict[str, float],
    integrated: bool,
) -> Report:
    """Combine the checks.

    `draws` are the pool's draws; what was integrated out is drawn given the rest, so under the weights they are draws
    of the posterior. `exact` holds means and sds under q; `sites` names those with weights and those without,
    `ranges` the discrete ones (with the distance between their least and largest value): they are compared in units of
    at least `DISCRETE`, since the sd of a label that is all but certain says nothing.
    `integrated` says whether the latents without weights left exactly; else only their bound stands in the weights,
    and nothing can be established.
    """
    names, mean, ratio, error = _differences(draws if sites[0] else {}, pool.weights, exact, ranges)
    worst, widest = int(np.argmax(mean)), int(np.argmax(np.abs(np.log(ratio))))
    limit = min(1.0 - 1.0 / np.log10(pool.half), 0.7)
    reach = float(np.clip(4.5 * np.hypot(error.max(), pool.half**-0.5), MEAN, 2 * MEAN))
    stretch = float(np.clip(1.0 + 4.5 / np.sqrt(2.0 * min(pool.ess, pool.half)), RATIO, 1.2))
    share = outcome.certificate.get("share_elsewhere", 0.0)
    copies = int(outcome.certificate.get("relabelled", 0.0))
    enough = min(ESS, len(pool.weights) / 8)
    mild = pool.khat_q < limit or pool.even_q
    level = pool.khat < limit or pool.even
    precise = bool(error.max() < 0.15)
    checks = (
        Check("optimiser met its stopping rule", float(outcome.converged), "1", outcome.converged),
        Check("Pareto k of p/q", pool.khat_q, f"< {limit:.2f}, or even weights", mild),
        Check("means of q, distance in sd", float(mean[worst]), f"< {reach:.2g}", bool(mean[worst] < reach)),
        Check(
            "sd of q / corrected sd, worst",
            float(ratio[widest]),
            f"in 1/{stretch:.3g}..{stretch:.3g}",
            close(float(ratio[widest]), stretch),
        ),
        Check("Pareto k of corrected weights", pool.khat, f"< {limit:.2f}, or even weights", level),
        Check("effective corrected draws", pool.ess, f"> {enough:.0f}", pool.ess > enough),
        Check("corrected means, error in sd", float(error.max()), "< 0.15", precise),
        Check("evidence in other optima", share, f"< {SHARE}", share < SHARE),
    )
    corrected = integrated and level and pool.ess > enough and precise and share < SHARE
    same = mean[worst] < reach and close(float(ratio[widest]), stretch)
    verdict: Verdict = "untrusted"
    if corrected:
        verdict = "trusted" if outcome.converged and mild and same else "usable"
    reasons = list(_reasons(verdict, outcome, pool, limit, share, enough, sites))
    if verdict == "trusted":
        reasons.insert(
            0,
            f"The means of q agree with corrected means within {mean[worst]:.2g} sd and its sds within "
            f"{100 * abs(ratio[widest] - 1):.0f} %.",
        )
    elif np.isfinite(pool.khat):
        if mean[worst] >= MEAN:
            reasons.append(f"The mean of {names[worst]} under q is {mean[worst]:.2g} sd from the corrected one.")
        if not close(float(ratio[widest]), RATIO):
            reasons.append(f"The sd of {names[widest]} under q is {ratio[widest]:.2g} times the corrected one.")
    if not integrated:
        reasons.append(
            f"{', '.join(sites[1])} depend on each other row by row: the weights hold a bound in their place."
        )
    if copies:
        reasons.append(
            f"{copies} other start{'s' * (copies > 1)} reached the same bound with the labels permuted: the posterior "
            "has equivalent labellings, and this fit describes one of them."
        )
    interval = (pool.khat_q - 1.96 * pool.khat_q_se, pool.khat_q + 1.96 * pool.khat_q_se)
    remedy = _remedy(verdict, share)
    return Report(verdict, tuple(reasons), remedy, pool.khat_q, interval, pool.khat, pool.ess, checks)


def _differences(
    draws: dict[str, np.ndarray], weights: np.ndarray, exact: Moments, ranges: dict[str, float]
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """(names, |mean of q - corrected| in sd, sd of q / corrected sd, error of the corrected mean in sd) of scalars."""
    known = {name: draws[name] for name in draws if name in exact}
    if not known:
        return [""], np.zeros(1), np.ones(1), np.zeros(1)
    table, names = flatten({name: np.asarray(values, float) for name, values in known.items()})
    q_mean = np.concatenate([exact[name][0].reshape(-1) for name in known])
    q_sd = np.concatenate([exact[name][1].reshape(-1) for name in known])
    spans = np.concatenate([np.full(exact[name][0].size, ranges.get(name, 0.0)) for name in known])
    mean, sd, error = weighted_moments(table, weights)
    use = np.isfinite(q_mean) & np.isfinite(q_sd) & (sd > 0)
    if not use.any():
        return [""], np.zeros(1), np.ones(1), np.zeros(1)
    least = np.where(spans > 0, DISCRETE, 1e-300)
    scale = np.maximum(sd, least)[use]
    ratio = np.maximum(q_sd, least)[use] / scale
    return (
        [n for n, u in zip(names, use, strict=True) if u],
        np.abs(q_mean - mean)[use] / scale,
        ratio,
        error[use] / scale,
    )


def _reasons(
    verdict: Verdict,
    outcome: Outcome,
    pool: Pool,
    limit: float,
    share: float,
    enough: float,
    sites: tuple[list[str], list[str]],
) -> list[str]:
    weighed, left_out = sites
    how = f"{', '.join(left_out)} integrated out exactly" if left_out else "all latents drawn"
    if not weighed:
        return ["q is one block, the exact posterior."] if outcome.converged else [outcome.status]
    out = []
    if verdict == "trusted":
        even = pool.khat_q >= limit
        return [
            f"Importance weights ({how}) are "
            + (
                f"even ({pool.ess:.0f} effective draws of {len(pool.points)})."
                if even
                else f"mild (k̂ = {pool.khat_q:.2f})."
            )
        ]
    if not outcome.converged:
        out.append(f"The optimiser did not certify its answer: {outcome.status}")
    if pool.khat_q >= limit and not pool.even_q:
        out.append(f"q misses part of the posterior: k̂ = {pool.khat_q:.2f} is above {limit:.2f} ({how}).")
    if pool.khat >= limit and not pool.even:
        out.append(f"The importance weights cannot be trusted either: k̂ = {pool.khat:.2f} after correction.")
    if pool.ess <= enough:
        out.append(f"The correction rests on only {pool.ess:.0f} effective draws of {len(pool.points)}.")
    if share >= SHARE:
        out.append(f"Other optima hold about {100 * share:.2g} % of the evidence, and q describes one.")
    if verdict == "usable":
        out.append(f"Importance weights mend it ({how}): {pool.ess:.0f} effective draws of {len(pool.points)}.")
    return out


def _remedy(verdict: Verdict, share: float) -> str:
    if verdict == "trusted":
        return ""
    if verdict == "usable":
        return "Use `sample`, `summary` and `to_arviz` as they are (they are corrected by default), not q itself."
    if share >= SHARE:
        return "Fit again from other seeds and compare, or break the symmetry by an ordered prior."
    return (
        'Factors of q ignore dependence: join sites that depend on each other, jn.cavi(blocks=(("a", "b"),)), take '
        "method='auto' where all latents are continuous, or run NUTS. Means are often right where sds are not."
    )
