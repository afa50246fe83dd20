"""The verdict: the findings of a list of checks, put together."""

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._core import AbstractCheck, Certificate, Finding, Outcome, Verdict
from jensen._verdict.check import Check, Report
from jensen._verdict.importance import Pool
from jensen._verdict.moments import Agreement, flatten
from jensen._verdict.tails import Looked

ESS, LEAST = 400.0, 0.5
"""Effective draws for *usable*, and the share of small pools that has to do."""


def limit_for(pool: Pool) -> float:
    """Pareto k̂ from which on weights from so many draws are not to be believed (Vehtari et al. 2024)."""
    return min(1.0 - 1.0 / np.log10(pool.half), 0.7)


def ruled_out(pool: Pool) -> bool:
    """Whether the weights alone rule *usable* out: by their tail, or since they leave too few effective draws."""
    return not (pool.khat < limit_for(pool) or pool.even) or not pool.ess > min(ESS, LEAST * len(pool.weights))


@dataclass(frozen=True, eq=False)
class Material:
    """What checks work on.

    Attributes:
        answer: the approximation with its model, of class `jensen._fit.answers.AbstractAnswer`.
        pool: importance draws. draws: the same on the sites' supports, site -> (draws, ...). seed: of further draws.
    """

    answer: Any
    pool: Pool
    draws: dict[str, np.ndarray]
    seed: int

    @property
    def outcome(self) -> Outcome:
        """What the algorithm left behind."""
        return self.answer.outcome

    @property
    def certificate(self) -> Certificate:
        """What it certified."""
        return self.answer.outcome.certificate

    @property
    def target(self) -> Any:
        """The analysed model."""
        return self.answer.target

    @property
    def limit(self) -> float:
        """Pareto k̂ from which on weights from so many draws are not to be believed (Vehtari et al. 2024)."""
        return limit_for(self.pool)

    @functools.cached_property
    def agreement(self) -> Agreement:
        """Moments of q against corrected ones."""
        return self.answer.agreement(self.pool, self.draws)

    @functools.cached_property
    def looked(self) -> Looked:
        """The tails that fall too slowly to be known from the draws, and what was not looked at."""
        return self.answer.tails(self.pool, self.draws, self.seed)

    @property
    def clear(self) -> bool:
        """Whether the weights have ruled *usable* out, and to look at tails would cost much and change nothing."""
        return self.answer.costly and ruled_out(self.pool)

    def agreement_without(self, scalars: Collection[str]) -> Agreement:
        """The same as `agreement` for all other scalars."""
        draws = {}
        for name, values in self.draws.items():
            drawn = values.reshape(len(values), -1)
            names = flatten({name: values[:1]})[1]
            kept = np.array([one not in scalars for one in names], dtype=bool)
            draws[name] = np.where(kept, drawn, 0.0).reshape(values.shape) if not kept.all() else values
        return self.answer.agreement(self.pool, draws)


def verdict(material: Material, checks: Iterable[AbstractCheck]) -> Report:
    """Let every check measure, and put together what they found.

    A finding that failed rules out the verdict that it `blocks`. Sentences stand in the order of the checks, so that
    the first that failed with a remedy gives the remedy of an untrusted fit. Where evaluations are costly, checks that
    need many of them are left out once the fit is untrusted: they could add reasons only.
    """
    findings = _findings(material, list(checks))
    blocked = {finding.blocks for finding in findings if not finding.passed}
    value: Verdict = "untrusted" if "usable" in blocked else "usable" if "trusted" in blocked else "trusted"
    reasons = tuple(dict.fromkeys(sentence for finding in findings for sentence in finding.sentences(value)))
    failed = ", ".join(f.title for f in findings if not f.passed and f.blocks)
    pool, khat = material.pool, material.answer.khat(material.pool)
    width = 1.96 * pool.khat_q_se
    interval = (pool.khat_q - width, pool.khat_q + width) if np.isfinite(width) else (khat, khat)
    return Report(
        value,
        reasons or (f"What failed: {failed}.",),
        _remedy(value, findings, material),
        khat,
        interval,
        pool.khat,
        pool.ess if np.isfinite(pool.log_joint).any() else 0.0,
        tuple(Check(f.title, f.value, f.limit, f.passed, f.blocks) for f in findings),
    )


def _findings(material: Material, checks: list[AbstractCheck]) -> list[Finding]:
    """What every check found, in their order; dear ones come last and only where the answer is not clear by then."""
    found: dict[int, list[Finding]] = {}
    for index in sorted(range(len(checks)), key=lambda i: checks[i].dear):
        clear = any(f.blocks == "usable" and not f.passed for own in found.values() for f in own)
        if not (checks[index].dear and clear and material.answer.costly):
            found[index] = list(checks[index].measure(material))
    return [finding for index in sorted(found) for finding in found[index]]


def _remedy(value: Verdict, findings: list[Finding], material: Material) -> str:
    advice = material.answer.advice
    failed = [f.remedy for f in findings if f.remedy and not f.passed]
    noted = [f.remedy for f in findings if f.remedy and f.passed and f.note]
    if value == "untrusted":
        said = [*(failed[:1] or [advice["untrusted"]]), *noted, material.answer.onward(material.pool)]
    else:
        said = [*([advice["usable"], *failed] if value == "usable" else []), *noted]
    return " ".join(dict.fromkeys(filter(None, said)))
