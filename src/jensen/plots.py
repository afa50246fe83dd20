"""Figures of a fit by Matplotlib: `bound_trace`, `marginals`, `pareto`, `pairs`; needs the extra `jensen[plots]`."""

from jensen._report.plots import bound_trace, marginals, pairs, pareto, save

__all__ = ["bound_trace", "marginals", "pairs", "pareto", "save"]
