"""The report of a verdict: its reasons in sentences, and the table behind them."""

from dataclasses import dataclass, field
from typing import Any, cast

from jensen._core import Verdict


@dataclass(frozen=True)
class Check:
    """One line of the report: what was measured, its value, the threshold, and whether it passed.

    `blocks` is the verdict that a failure rules out: "trusted", "usable", or "" where the line is reported only.
    """

    name: str
    value: float
    threshold: str
    passed: bool
    blocks: str = ""


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
        weighed = self.verdict == "usable" and self.khat_corrected > -1.0  # without a tail all draws weigh the same
        words = "usable with importance weights" if weighed else self.verdict
        lines = [f"Verdict: {words}"]
        lines += [f"  - {reason}" for reason in self.reasons]
        if self.remedy:
            lines.append(f"  What to do: {self.remedy}")
        lines += [
            f"  {'ok ' if c.passed else 'NO '} {c.name:<38} {c.value:>10.3g}   {c.threshold}" for c in self.checks
        ]
        return "\n".join(lines)

    __repr__ = __str__


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
