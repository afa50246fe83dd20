"""The bound's history by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._core.algorithm import SEARCHING
from jensen._report.style import CORRECTED, GREY, RAW, headline, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jensen._fit.result import Fit

_CYCLE = (CORRECTED, RAW, "#7b4ea3", "#2a9d8f", "#b3261e", "#6d6d6d")


def bound_trace(fit: Fit) -> Figure:
    """Left the search for the mode (log joint density), right the bound of every phase after it, both in nats.

    Heights are differences, from the highest log joint density on the left and from the final ELBO on the right, on an
    axis that is linear within one nat and logarithmic beyond. The grey band is the final ELBO, measured on fresh draws,
    with two standard errors.
    """
    search = [row for row in fit.history if row["phase"] in SEARCHING]
    bounds = [row for row in fit.history if row["phase"] not in SEARCHING]
    parts = [(search, _search)] * bool(search) + [(bounds, _bounds)] * bool(bounds or not search)
    with styled() as plt:
        figure, axes = plt.subplots(1, len(parts), figsize=(5.2 * len(parts), 3.8), layout="constrained", squeeze=False)
        for axis, (rows, draw) in zip(axes[0], parts, strict=True):
            draw(axis, rows, fit)
            axis.set_yscale("symlog", linthresh=1.0, linscale=1.5)
            axis.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:+,.0f}" if value else "0"))
            axis.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
            axis.set_xlabel("progress report")
        note = f"method {fit.method}, {fit.timings['total']:.1f} s, ELBO {fit.elbo.value:,.2f} nats"
        headline(figure, "How the fit got there", note)
    return figure


def _search(axis: Any, rows: list[dict[str, Any]], fit: Fit) -> None:
    values = np.array([row["bound"] for row in rows], float)
    top = values[np.isfinite(values)].max(initial=-np.inf)
    axis.plot(np.arange(len(values)), values - top, color=GREY, marker="o" if len(values) < 60 else "", ms=3.5, lw=1.5)
    finite = values[np.isfinite(values)] - top
    axis.set_ylim(min(1.8 * float(finite.min(initial=0.0)), -1.0), 0.5)
    axis.set_title(f"climbing: highest log joint density {top:,.2f}")
    axis.set_ylabel("below the highest (nats)")


def _bounds(axis: Any, rows: list[dict[str, Any]], fit: Fit) -> None:
    values = np.array([row["bound"] for row in rows], float)
    finite = values[np.isfinite(values)]
    level = fit.elbo.value if np.isfinite(fit.elbo.value) else finite.max(initial=0.0)
    if np.isfinite(fit.elbo.se):
        axis.axhspan(-2 * fit.elbo.se, 2 * fit.elbo.se, color=GREY, alpha=0.25, lw=0)
    axis.axhline(0.0, color=GREY, lw=1)
    phases = np.array([row["phase"] for row in rows])
    for number, phase in enumerate(dict.fromkeys(phases)):
        steps = np.flatnonzero(phases == phase)
        single = len(steps) == 1
        colour = _CYCLE[number % len(_CYCLE)]
        marker, size = ("o", 7 if single else 3.5) if len(steps) < 60 else ("", 0)
        axis.plot(
            steps, values[steps] - level, color=colour, marker=marker, ms=size, lw=0 if single else 1.5, label=phase
        )
    low, high = (float(end) for end in ((finite - level).min(initial=0.0), (finite - level).max(initial=0.0)))
    axis.set_ylim(min(1.8 * low, -1.0), max(1.8 * high, 0.6))
    axis.set_title(f"the bound: final ELBO {fit.elbo.value:,.2f} ± {fit.elbo.se:.2f}")
    axis.set_ylabel("above the final ELBO (nats)")
    if len(phases):
        axis.legend(loc="lower right", fontsize=9)
