"""A fit as the JSON object that `--json` prints."""

from typing import Any

import pandas as pd

from jensen._cli import exit_codes
from jensen._fit.result import Fit
from jensen._verdict.check import Report, as_dict
from jensen._verdict.evidence import Evidence


def record(
    fit: Fit,
    report: Report | None,
    frame: pd.DataFrame | None,
    bounds: Evidence | None,
    files: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Verdict, bound, evidence, summary, stages, timings and files; docs/command-line.md has the fields.

    What an interruption left out is null.
    """
    from jensen._base.version import __version__

    out: dict[str, Any] = {
        "jensen": __version__,
        "verdict": report.verdict if report else None,
        "reasons": report.reasons if report else (),
        "remedy": report.remedy if report else "",
        "exit_status": exit_codes.of(report.verdict) if report else exit_codes.INTERRUPTED,
        "interrupted": fit.outcome.certificate.interrupted or report is None or bounds is None,
        "converged": fit.converged,
        "status": fit.status,
        "method": fit.method,
        "options": fit.options,
        "seed": fit.seed,
        "elbo": {"value": fit.elbo.value, "se": fit.elbo.se},
        "evidence": _evidence(bounds) if bounds else None,
        "check": {k: v for k, v in as_dict(report).items() if k not in ("verdict", "reasons", "remedy")}
        if report
        else None,
        "stages": fit.outcome.stages,
        "timings": fit.timings,
    }
    if frame is not None:
        out["summary_of"] = "importance-corrected draws" if "q_mean" in frame else "draws from q"
        out["summary"] = frame.to_dict(orient="index")
    out["files"] = files or {}
    return out


def _evidence(bounds: Evidence) -> dict[str, Any]:
    weighted = [{"draws": k, "value": value, "se": se} for k, (value, se) in bounds.importance_weighted.items()]
    estimate = {"value": bounds.log_evidence, "se": bounds.log_evidence_se, "khat": bounds.khat}
    labels = {"log_number": bounds.log_labellings, "log_covered": bounds.log_covered, "one": bounds.one_labelling}
    return {
        "importance_weighted": weighted,
        "log_evidence": estimate,
        "interval": bounds.interval,
        "labellings": labels,
    }
