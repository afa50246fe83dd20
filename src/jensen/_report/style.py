"""Colours and habits shared by the plots."""

import contextlib
from collections.abc import Iterator
from typing import Any

from jensen._base.extras import needed

CORRECTED, RAW, GREY, WARN, GOOD = "#1b6ca8", "#e07b39", "#8a8f98", "#b3261e", "#2e7d32"
DPI = 150

_RC = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.labelcolor": "#333333",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.edgecolor": "#555555",
    "axes.formatter.useoffset": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextlib.contextmanager
def styled() -> Iterator[Any]:
    """pyplot under the common style; the user's own settings come back afterwards."""
    plt = needed("matplotlib.pyplot")
    with plt.rc_context(_RC):
        yield plt


def headline(figure: Any, title: str, note: str = "") -> None:
    """A title at the left, and what the plot leaves out in brackets after it."""
    full = title + (f"  ({note})" if note else "")
    figure.suptitle(full, x=0.01, ha="left", fontsize=12, fontweight="bold")
