"""Results as rich renderables."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from jensen._explain.plan import Plan
from jensen._fit.result import Fit
from jensen._verdict.check import Report
from jensen._verdict.evidence import Evidence
from jensen._verdict.labellings import count_in_words
from jensen._verdict.table import site_of

COLOUR = {"trusted": "green", "usable": "yellow", "untrusted": "red"}
WORDS = {"trusted": "trusted", "usable": "usable with importance weights", "untrusted": "untrusted"}
ROWS_PER_SITE, ROWS = 8, 40
WIDE = 150
"""Columns that the whole plan needs."""
HEADINGS = {
    "mean": "mean", "sd": "sd", "q5": "5 %", "median": "50 %", "q95": "95 %", "mcse_mean": "± mcse",
    "q_mean": "q mean", "q_sd": "q sd", "lr_sd": "lr sd",
}  # fmt: skip


def verdict(report: Report) -> Panel:
    """The verdict with its reasons and the remedy."""
    lines = Table.grid(padding=(0, 1))
    for reason in report.reasons:
        lines.add_row("•", Text(reason))
    if report.remedy:
        lines.add_row(Text("→", "bold"), Text.assemble(("What to do: ", "bold"), report.remedy))
    title = Text.assemble("Verdict: ", (WORDS[report.verdict], f"bold {COLOUR[report.verdict]}"))
    return Panel(lines, title=title, title_align="left", border_style=COLOUR[report.verdict], padding=(0, 1))


def checks(report: Report) -> Table:
    """What was measured, against which threshold."""
    table = _table("Checks", "what was measured")
    table.add_column("value", justify="right")
    table.add_column("wanted")
    table.add_column("")
    for check in report.checks:
        mark = Text("ok", "green") if check.passed else Text("no", "bold red")
        table.add_row(Text(check.name), f"{check.value:.3g}", check.threshold, mark)
    return table


def evidence(value: Evidence) -> Table:
    """Bounds on log p(x), rising, and its estimate."""
    table = _table("Evidence, in nats", "")
    table.add_column("value", justify="right")
    table.add_column("± s.e.", justify="right")
    table.add_row("ELBO", f"{value.elbo:,.3f}", f"{value.elbo_se:.3f}")
    for count, (bound, se) in value.importance_weighted.items():
        table.add_row(f"importance-weighted bound, {count} draws", f"{bound:,.3f}", f"{se:.3f}")
    if not math.isnan(value.log_evidence):
        table.add_row("log p(x), estimated", f"{value.log_evidence:,.3f}", f"{value.log_evidence_se:.3f}", style="bold")
    else:
        table.add_row("log p(x), estimated", "none", "")
    low, high = value.interval
    for words, limit in (("least", low), ("most", high)):
        said = f"{limit:,.3f}" if math.isfinite(limit) else "no limit"
        table.add_row(f"log p(x), at {words} (97.5 % confidence)", said, "")
    if value.log_labellings:
        some = count_in_words(value.log_labellings)
        table.add_row(f"of it one of {some} labellings", f"{value.one_labelling:,.3f}", "")
    return table


def stages(fit: Fit) -> Table | None:
    """The families that were tried."""
    if not fit.outcome.stages:
        return None
    table = _table("Families tried", "family")
    table.add_column("ELBO", justify="right")
    table.add_column("± s.e.", justify="right")
    table.add_column("")
    for stage in fit.outcome.stages:
        kept = Text("kept", "green") if stage.get("kept") else ""
        table.add_row(str(stage.get("family", "")), f"{stage['elbo']:,.3f}", f"{stage['se']:.3f}", kept)
    return table


def summary(frame: pd.DataFrame, fit: Fit, rows: int = ROWS, per_site: int = ROWS_PER_SITE) -> RenderableType:
    """The summary table, sites in the model's order, long sites cut short."""
    corrected = "q_mean" in frame
    kind = "importance-corrected draws" if corrected else "draws from q"
    table = _table(f"Posterior summary ({kind})", "parameter")
    for column in map(str, frame.columns):
        dim = column in ("mcse_mean", "q_mean", "q_sd", "lr_sd")
        table.add_column(HEADINGS.get(column, column), justify="right", style="dim" if dim else "")
    for label, values, scale in summary_rows(frame, fit, rows, per_site):
        if values is None:
            table.add_row(Text(label, "dim italic"), *[""] * len(frame.columns))
        else:
            table.add_row(Text(label), *(number(value, scale) for value in values))
    return table


def summary_rows(
    frame: pd.DataFrame, fit: Fit, rows: int, per_site: int
) -> Iterator[tuple[str, np.ndarray | None, float]]:
    """(label, values, sd) for the rows that are shown; values are None where rows are left out."""
    order = [site.name for site in fit.structure.drawn + fit.structure.deterministic]
    owner = pd.Series([site_of(name) for name in frame.index], index=frame.index)
    shown = left = 0
    for name in order:
        part = frame[owner == name]
        count = min(len(part), per_site, max(rows - shown, 0))
        if len(part) - count == 1 and count:
            count += 1  # a line that says "1 more" would be no shorter
        if not count:
            left += len(part)
            continue
        for label, values in part.iloc[:count].iterrows():
            yield str(label), values.to_numpy(float), float(values["sd"])
        shown += count
        if len(part) > count:
            yield f"… {len(part) - count:,} more of {name}", None, 1.0
    if left:
        yield f"… {left:,} more rows", None, 1.0


def number(value: float, scale: float) -> str:
    """A number with three significant digits of its scale (a standard deviation)."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else str(value)
    if not (scale > 0 and math.isfinite(scale)):
        return f"{value:.4g}"
    decimals = 2 - math.floor(math.log10(scale))
    if decimals > 6 or abs(value) >= 1e7:
        return f"{value:.4g}"
    return f"{value:,.{max(decimals, 0)}f}"


def footing(fit: Fit) -> Text:
    """Why it stopped, and what it cost."""
    return Text.assemble(fit.status, "\n", (fit.cost, "dim"))


def plan(value: Plan, width: int) -> RenderableType:
    """The plan as it is, or in narrow windows without the column of words."""
    if width >= WIDE:
        return value
    table = _table(value.title, "site")
    for name in ("kind", "distribution", "support", "shape", "depends on"):
        table.add_column(name, overflow="fold")
    for row in value.rows:
        site, kind, distribution, support, shape, plates, parents, _ = row.cells()
        table.add_row(*map(Text, (site, kind, distribution, support, plates if row.plates else shape, parents)))
    notes = Table.grid(padding=(0, 1))
    for sentence in value.method:
        notes.add_row("•", Text(sentence))
    return Group(table, Text('method="auto" will do this:', "bold"), notes, *value.updates())


def result(fit: Fit, report: Report, frame: pd.DataFrame, bounds: Evidence) -> Iterator[Any]:
    """Everything that `jensen fit` prints."""
    tried = stages(fit)
    yield Text()
    yield from (summary(frame, fit), evidence(bounds), *([tried] if tried else []))
    yield footing(fit)
    yield Text()
    yield verdict(report)


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table
