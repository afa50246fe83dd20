"""A fit as one self-contained HTML page: verdict, summary, evidence, checks, plots and how it was obtained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jensen._base.replacing import replacing
from jensen._report import plots
from jensen._report.page import Html, image, page, table, tag
from jensen._verdict.table import site_of

if TYPE_CHECKING:
    from jensen._fit.result import Fit

ROWS = 500
"""Rows of the summary that are written; the rest is counted."""

WORDS = {"trusted": "Trusted", "usable": "Usable with importance weights", "untrusted": "Untrusted"}
CAPTIONS = {
    "bound_trace": "How the bound rose, phase by phase.",
    "marginals": "Marginal densities. Where the draws are importance-corrected, q's own are drawn beside them.",
    "pareto": "Importance weights by size, and Pareto k̂ of q and of the corrected draws.",
    "pairs": "Pairs of scalars.",
}


def write(fit: Fit, path: Any) -> None:
    """Write the report. Works for fits loaded from a file, too; nothing in the page is loaded from elsewhere."""
    text = render(fit)
    with replacing(path) as place:
        place.write_text(text, encoding="utf-8")


def render(fit: Fit) -> str:
    """The report as text."""
    from jensen._base.version import __version__

    title = f"jensen: {', '.join(site.name for site in fit.structure.latents[:3])}"
    more = len(fit.structure.latents) - 3
    return page(
        "jensen report",
        tag("h1", title + (f" and {more} more" if more > 0 else "")),
        tag("p", f"Method {fit.method}, seed {fit.seed}, {fit.structure.dim} unconstrained coordinates", class_="sub"),
        _verdict(fit),
        _summary(fit),
        tag("div", _evidence(fit), _stages(fit), class_="columns"),
        _plots(fit),
        _checks(fit),
        _sites(fit),
        tag("footer", f"Written by jensen {__version__}. Densities and bounds are in nats."),
    )


def _verdict(fit: Fit) -> Html:
    report = fit.check()
    remedy = tag("p", tag("b", "What to do: "), report.remedy, class_="remedy") if report.remedy else ""
    return tag(
        "section",
        tag("h2", f"Verdict: {WORDS[report.verdict].lower()}"),
        tag("ul", *(tag("li", reason) for reason in report.reasons)),
        remedy,
        class_=f"verdict {report.verdict}",
    )


def _summary(fit: Fit) -> Html:
    frame = fit.summary()
    order = {site.name: i for i, site in enumerate(fit.structure.drawn + fit.structure.deterministic)}
    frame = frame.iloc[sorted(range(len(frame)), key=lambda i: order[site_of(frame.index[i])])]
    headings = ["parameter", *(_heading(column) for column in frame.columns)]
    rows = [
        [label, *(_number(value, values["sd"]) for value in values)] for label, values in frame.iloc[:ROWS].iterrows()
    ]
    kind = "importance-corrected draws, with q's own beside them" if "q_mean" in frame else "draws from q"
    left = len(frame) - ROWS
    note = f"From {kind}." + (f" {left:,} more rows are left out." if left > 0 else "")
    numeric = set(range(1, len(headings)))
    return tag("section", tag("h2", "Posterior summary"), table(headings, rows, numeric), tag("p", note, class_="note"))


def _heading(column: str) -> str:
    return {"q5": "5 %", "median": "50 %", "q95": "95 %", "mcse_mean": "± mcse", "q_mean": "q mean", "q_sd": "q sd",
            "lr_sd": "lr sd"}.get(column, column)  # fmt: skip


def _number(value: float, scale: float) -> str:
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    decimals = 2 - math.floor(math.log10(scale)) if scale > 0 and math.isfinite(scale) else 9
    return f"{value:.4g}" if decimals > 6 else f"{value:,.{max(decimals, 0)}f}"


def _evidence(fit: Fit) -> Html:
    bounds = fit.evidence()
    rows = [("ELBO", bounds.elbo, bounds.elbo_se)]
    rows += [(f"importance-weighted, {k} draws", v, se) for k, (v, se) in bounds.importance_weighted.items()]
    rows += [("log p(x), estimated", bounds.log_evidence, bounds.log_evidence_se)]
    cells = [(name, f"{value:,.3f}", f"{se:.3f}") for name, value, se in rows if not math.isnan(value)]
    shown = table(("bound, in nats", "value", "± s.e."), cells, {1, 2})
    return tag("section", tag("h2", "Evidence"), shown, *(tag("p", line, class_="note") for line in bounds.notes))


def _stages(fit: Fit) -> Html:
    rows = [
        (s.get("family", ""), f"{s['elbo']:,.3f}", f"{s['se']:.3f}", "kept" if s.get("kept") else "")
        for s in fit.outcome.stages
    ]
    tried = table(("family tried", "ELBO", "± s.e.", ""), rows, {1, 2}) if rows else ""
    return tag(
        "section", tag("h2", "How it was fitted"), tried, tag("p", fit.status), tag("p", fit.cost, class_="note")
    )


def _plots(fit: Fit) -> Html:
    shown = [
        tag("figure", image(data, CAPTIONS[name]), tag("figcaption", CAPTIONS[name], class_="note"))
        for name, data in plots.images(fit).items()
    ]
    return tag("section", tag("h2", "Plots"), *shown)


def _checks(fit: Fit) -> Html:
    rows = [
        (
            c.name,
            f"{c.value:.3g}",
            c.threshold,
            tag("span", "ok" if c.passed else "no", class_="ok" if c.passed else "no"),
        )
        for c in fit.check().checks
    ]
    return tag("section", tag("h2", "Checks"), table(("what was measured", "value", "wanted", ""), rows, {1}))


def _sites(fit: Fit) -> Html:
    if fit.target is not None:
        from jensen._model.build import with_dependencies

        structure = with_dependencies(fit.target)
    else:
        structure = fit.structure
    rows = []
    for site in structure.sites.values():
        plates = ", ".join(f"{plate.name}[{plate.size}]" for plate in site.plates)
        shape = " × ".join(map(str, site.shape)) or "scalar"
        support = _support(site.support) if site.kind == "latent" else ""
        rows.append((site.name, site.kind, site.distribution, support, shape, plates, ", ".join(site.parents)))
    headings = ("site", "kind", "distribution", "support", "shape", "plates", "depends on")
    return tag("section", tag("h2", "The model"), table(headings, rows, set()))


def _support(support: Any) -> str:
    from jensen._explain.plan import describe_support

    return support if isinstance(support, str) else describe_support(support)
