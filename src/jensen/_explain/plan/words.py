"""Supports and their maps to the real line, in words."""

from typing import Any

_CHARTS = {
    "real": "no transform",
    "real vector": "no transform",
    "real matrix": "no transform",
    "positive": "log transform",
    "nonnegative": "log transform",
    "softplus positive": "inverse softplus transform",
    "greater than": "log of the distance from the bound",
    "greater than eq": "log of the distance from the bound",
    "less than": "log of the distance from the bound",
    "less than eq": "log of the distance from the bound",
    "unit interval": "logit transform",
    "interval": "scaled logit transform",
    "open interval": "scaled logit transform",
    "circular": "scaled logit transform",
    "simplex": "stick breaking",
    "ordered vector": "first value and log gaps",
    "positive ordered vector": "log of first value and gaps",
    "corr cholesky": "partial correlations",
    "corr matrix": "partial correlations",
    "lower cholesky": "log diagonal",
    "positive definite": "Cholesky factor, log diagonal",
    "positive semi definite": "Cholesky factor, log diagonal",
    "scaled unit lower cholesky": "softplus diagonal",
    "softplus lower cholesky": "softplus diagonal",
    "zero sum": "coordinates of the zero-sum space",
}
"""Supports, by their NumPyro class, -> their map to the real line in words."""


def describe_support(support: Any) -> str:
    """`positive`, `interval (0, 5)`, `simplex`, ...; bounds that are arrays are shown as `…`."""
    base, words = _words(support)
    if getattr(base, "is_discrete", False):
        return _integers(base, words)
    low, high = (_bound(getattr(base, name, None)) for name in ("lower_bound", "upper_bound"))
    if words.endswith("interval"):
        return f"interval ({low}, {high})"
    if words.startswith("greater than"):
        return f"above {low}"
    if words.startswith("less than"):
        return f"below {high}"
    return {"circular": "circle (-π, π)"}.get(words, words)


def _integers(base: Any, words: str) -> str:
    low, high = (_bound(getattr(base, name, None)) for name in ("lower_bound", "upper_bound"))
    if words == "integer interval":
        return f"integers {low} to {high}"
    known = {"boolean": "0 or 1", "integer nonnegative": "counts", "integer positive": "positive counts"}
    return known.get(words, words)


def describe_chart(support: Any) -> str:
    """How a support is mapped to the whole real line, in words: `log transform`, `stick breaking`."""
    words = _words(support)[1]
    return _CHARTS.get(words, f"NumPyro's transform of {words}")


def _words(support: Any) -> tuple[Any, str]:
    """The support of one event and its class name as words: `_GreaterThan` is `greater than`."""
    while type(support).__name__ == "_IndependentConstraint":
        support = support.base_constraint
    name = type(support).__name__.lstrip("_")
    return support, "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _bound(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "…"
