"""Plots of a fit: the bound's history, the marginals, the importance weights and pairs of scalars.

Every function returns a Matplotlib figure; `save` writes them all as PNG files. Marginals and pairs are drawn by
arviz-plots from the draws that `Fit.sample` gives.
"""

from __future__ import annotations

import io
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen._base.errors import OptionError
from jensen._base.extras import needed
from jensen._base.replacing import replacing
from jensen._math.docstrings import spare_docstrings
from jensen._report.bound_trace import bound_trace
from jensen._report.labels import choose
from jensen._report.style import CORRECTED, DPI, RAW, headline, styled
from jensen._report.weights import pareto

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jensen._fit.result import Fit

MARGINALS, PAIRS, DRAWS, POINTS = 12, 5, 10_000, 1500
"""Scalars shown where none are asked for; draws behind curves and in clouds."""

_IMAGES: weakref.WeakKeyDictionary[Fit, dict[str, bytes]] = weakref.WeakKeyDictionary()


def marginals(fit: Fit, var_names: list[str] | None = None, *, limit: int = MARGINALS) -> Figure:
    """Densities of the first `limit` scalars: of the corrected draws where the verdict is usable, and of q.

    The view spans the central 99.6 % of the draws.
    """
    arviz_plots = needed("arviz_plots")
    spare_docstrings()
    corrected = fit.check().verdict == "usable"
    shown = choose(fit, fit.sample(DRAWS), var_names, limit)
    kinds = {"importance-corrected draws" if corrected else "draws of q": (shown.draws, CORRECTED)}
    if corrected:
        raw = choose(fit, fit.sample(DRAWS, raw=True), var_names, shown.total).draws
        kinds["draws of q itself"] = ({name: raw[name] for name in shown.draws}, RAW)
    names, columns = list(shown.draws), min(4, len(shown.draws))
    smooth = all(values.dtype.kind == "f" for values in shown.draws.values())
    spans = {name: np.quantile(values, (0.002, 0.998)) for name, values in shown.draws.items()}
    with styled() as plt:
        size = (max(2.9 * columns, 6.0), 2.0 * -(-len(names) // columns) + 1.0)
        collection = arviz_plots.plot_dist(
            {kind: _tree({n: _within(v, *spans[n]) for n, v in draws.items()}) for kind, (draws, _) in kinds.items()},
            kind="kde" if smooth else "hist",
            # Resampled draws repeat, which misleads a fitted bandwidth.
            stats={"dist": {"bw": "silverman"}} if smooth else {},
            backend="matplotlib",
            visuals={
                "dist": {} if corrected else {"color": CORRECTED},
                **dict.fromkeys(("credible_interval", "point_estimate", "point_estimate_text", "title"), False),
            },
            figure_kwargs={"figsize": size, "layout": "constrained"},
            col_wrap=columns,
            **({"aes": {"color": ["model"]}, "color": [colour for _, colour in kinds.values()]} if corrected else {}),
        )
        figure = collection.viz["figure"].item()
        for axes, name in zip(figure.axes, names, strict=False):
            axes.set_title(name)
            axes.set_yticks([])
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(plt.MaxNLocator(4))
            axes.set_xlim(*spans[name])
            axes.spines["left"].set_visible(False)
        for axes in figure.axes[len(names) :]:
            axes.set_visible(False)
        handles = [plt.Line2D([], [], color=colour, lw=2) for _, colour in kinds.values()]
        figure.legend(handles, list(kinds), loc="outside lower left", ncols=2)
        headline(figure, "Posterior marginals", shown.note)
    return figure


def pairs(fit: Fit, var_names: list[str] | None = None, *, limit: int = PAIRS) -> Figure:
    """Clouds of the first `limit` scalars against each other, with their marginals: the draws of `Fit.sample`."""
    arviz_plots = needed("arviz_plots")
    spare_docstrings()
    corrected = fit.check().verdict == "usable"
    shown = choose(fit, fit.sample(POINTS), var_names, limit)
    if len(shown.draws) < 2:
        raise OptionError("A pair plot needs at least two scalars that vary.", f"Scalars: {', '.join(shown.draws)}.")
    count = len(shown.draws)
    with styled():
        matrix = arviz_plots.plot_pair(
            _tree(shown.draws),
            backend="matplotlib",
            visuals={
                "scatter": {"color": CORRECTED, "alpha": 0.25, "size": 6},
                "dist": {"color": CORRECTED},
                "divergence": False,
                "xlabel": {"size": 10},
                "ylabel": {"size": 10},
            },
            figure_kwargs={"figsize": (1.75 * count + 0.6, 1.6 * count + 0.8), "layout": "constrained"},
        )
        figure = matrix.viz["figure"].item()
        for axes in figure.axes:
            if axes.lines and not axes.collections:
                axes.set_yticks([])  # densities: their height says nothing here
        kind = "importance-corrected draws" if corrected else "draws of q"
        headline(figure, f"Pairs, {kind}", shown.note)
    return figure


def images(fit: Fit) -> dict[str, bytes]:
    """Name -> PNG of every plot that this fit allows; drawn once for each fit."""
    if fit not in _IMAGES:
        plt = needed("matplotlib.pyplot")
        found = {}
        several = len(choose(fit, fit.sample(50), None, 2).draws) > 1
        for draw in (bound_trace, marginals, pareto, *([pairs] if several else [])):
            figure, buffer = draw(fit), io.BytesIO()
            figure.savefig(buffer, format="png", dpi=DPI)
            plt.close(figure)
            found[draw.__name__] = buffer.getvalue()
        _IMAGES[fit] = found
    return _IMAGES[fit]


def save(fit: Fit, folder: Any) -> list[Path]:
    """Write every plot as a PNG file into a folder, which is made where it is not there; the paths."""
    folder, drawn = Path(folder), images(fit)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, image in drawn.items():
        path = folder / f"{name}.png"
        with replacing(path) as place:
            place.write_bytes(image)
        written.append(path)
    return written


def _within(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draws with those outside replaced by others: a far tail would leave the density estimate too few grid points."""
    margin = 0.25 * (high - low)
    inside = values[(values >= low - margin) & (values <= high + margin)]
    return np.resize(inside if len(inside) else values, len(values))


def _tree(draws: dict[str, np.ndarray]) -> Any:
    from arviz_base import from_dict

    # xarray takes "/" in a name for a path; sites in a numpyro scope have it
    return from_dict({"posterior": {name.replace("/", "∕"): values[None] for name, values in draws.items()}})


__all__ = ["bound_trace", "images", "marginals", "pairs", "pareto", "save"]
