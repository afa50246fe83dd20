"""The importance weights and their Pareto k̂."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._report.style import CORRECTED, GOOD, GREY, RAW, WARN, headline, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jensen._fit.result import Fit

LOW, HIGH = -0.5, 1.5
"""Ends of the k̂ axis; estimates beyond are drawn at the end."""


def pareto(fit: Fit) -> Figure:
    """Left the largest weights against their rank, right k̂ of q and of the corrected draws with its threshold.

    On log axes a tail of shape k̂ is a line of slope -k̂: flat weights mean that the proposal covers the posterior, a
    steep line that a few draws carry everything.
    """
    with styled() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10.4, 3.8), layout="constrained", gridspec_kw={"width_ratios": [1.25, 1]}
        )
        _tails(left, fit)
        _khats(right, fit)
        headline(figure, "Importance weights: does q cover the posterior?")
    return figure


def _tails(axis: Any, fit: Fit) -> None:
    pool = fit.pool
    logs = np.where(np.isfinite(pool.log_ratios), pool.log_ratios, -np.inf)
    raw = np.exp(logs - logs.max()) if np.isfinite(logs.max()) else np.zeros_like(logs)
    corrected = f"both proposals, smoothed (ESS {pool.ess:,.0f} of {len(pool.weights):,})"
    for values, label, colour in ((raw, "p/q, draws of q", RAW), (pool.weights, corrected, CORRECTED)):
        relative = np.sort(values)[::-1] / max(values.mean(), 1e-300)
        ranks = np.unique(np.geomspace(1, len(relative), 200).round().astype(int))
        shown = relative[ranks - 1]
        axis.loglog(ranks[shown > 0], shown[shown > 0], color=colour, label=label, lw=2)
    top = max(float(line.get_ydata().max(initial=1.0)) for line in axis.lines)
    ranks = np.array([1.0, len(pool.weights) / 5])
    axis.loglog(ranks, 2.0 * top * ranks**-0.7, color=GREY, ls="--", lw=1, label="slope of k̂ = 0.7")
    axis.axhline(1.0, color=GREY, lw=0.8)
    axis.set_ylim(1e-3, 4.0 * top)
    axis.set_title("weights in order of size")
    axis.set_xlabel("rank of the draw")
    axis.set_ylabel("weight / average weight")
    axis.legend(loc="lower left", fontsize=9)


def _khats(axis: Any, fit: Fit) -> None:
    report = fit.check()
    axis.axvspan(LOW, 0.7, color=GOOD, alpha=0.10, lw=0)
    axis.axvspan(0.7, 1.0, color="#f2b134", alpha=0.18, lw=0)
    axis.axvspan(1.0, HIGH, color=WARN, alpha=0.10, lw=0)
    axis.axvline(0.7, color=GREY, ls="--", lw=1)
    low, high = (float(np.clip(np.nan_to_num(end, nan=HIGH), LOW, HIGH)) for end in report.khat_interval)
    axis.plot([low, high], [1, 1], color=RAW, lw=3, alpha=0.5, solid_capstyle="round")
    for row, value, colour in ((1, report.khat, RAW), (0, report.khat_corrected, CORRECTED)):
        place = float(np.clip(np.nan_to_num(value, nan=HIGH), LOW, HIGH))
        axis.plot([place], [row], "o", color=colour, ms=9)
        axis.annotate(_said(value), (place, row), (0, 12), textcoords="offset points", ha=_side(place), fontsize=10)
    axis.set_yticks([1, 0], ["q\n(95 % interval)", "corrected"])
    axis.set_ylim(-0.6, 1.6)
    axis.set_xlim(LOW, HIGH)
    axis.set_xticks([LOW, 0.0, 0.5, 0.7, 1.0, HIGH])
    axis.set_title("Pareto k̂: below 0.7 the weights can be used")
    axis.set_xlabel("k̂ (no unit)")


def _said(value: float) -> str:
    if np.isneginf(value):
        return "all weights equal"
    return f"{value:.2f}" if np.isfinite(value) else "not finite"


def _side(place: float) -> str:
    return "left" if place < LOW + 0.3 else "right" if place > HIGH - 0.3 else "center"
