"""Whether the arrays of a saved fit are those that its header speaks of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._fit.archive import Damaged

_KINDS = {"q", "pool", "draws", "estimates", "summary"}
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "method": str,
    "options": dict,
    "seed": int,
    "status": str,
    "converged": bool,
    "elbo": list,
    "history": list,
    "timings": dict,
    "certificate": dict,
    "restarts": list,
    "stages": list,
    "report": (dict, type(None)),
    "evidence": (dict, type(None)),
    "parameters": (list, type(None)),
    "khats": (list, type(None)),
    "structure": dict,
}
_SUMMARY = ("mean", "sd", "q5", "median", "q95")
_DEPTH = 16
"""How far the lists and mappings of a header may be nested."""


def check(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `Damaged` for a field of another type, a member that is missing or too many, or of another shape."""
    for name, kind in _FIELDS.items():
        if name not in header or not isinstance(header[name], kind):
            raise Damaged(f"The header's '{name}' is missing or of another type")
    _check_depth(header, _DEPTH)
    sites = {site["name"]: tuple(site["shape"]) for site in header["structure"]["sites"]}
    for name, value in arrays.items():
        kind, _, rest = name.partition("/")
        if (kind not in _KINDS or not rest) and name != "linear_response":
            raise Damaged(f"A member '{name}' does not belong in it")
        if kind == "q" and value.dtype.kind == "f" and not np.isfinite(value).all():
            raise Damaged(f"'{name}' holds values that are not finite")
        if kind == "estimates" and rest not in (header.get("estimates") or {"kinds": {}})["kinds"]:
            raise Damaged(f"The header knows no estimate '{rest}'")
    response = arrays.get("linear_response")
    if response is not None and (response.ndim != 2 or len(set(response.shape)) > 1):
        raise Damaged(f"The linear response has the shape {response.shape}")
    _check_draws(header, arrays, sites)
    _check_summary(header, arrays)


def _check_depth(value: Any, left: int) -> None:
    if left < 0:
        raise Damaged("The header is nested too deeply")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for part in inner:
        _check_depth(part, left - 1)


def _check_draws(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], sites: Mapping[str, tuple[int, ...]]
) -> None:
    """The pool, one entry for each draw, and the draws themselves on their sites' shapes."""
    given = [name for name in arrays if name.startswith(("pool/", "draws/"))]
    if header["khats"] is None:
        if given:
            raise Damaged(f"The header knows no '{given[0]}'")
        return
    pool = [arrays.get(f"pool/{name}") for name in ("log_joint", "log_q", "log_proposal", "weights", "points")]
    count = len(pool[0]) if pool[0] is not None else 0
    for name, value in zip(("log_joint", "log_q", "log_proposal", "weights"), pool, strict=False):
        if value is None or value.shape != (count,) or value.dtype.kind != "f":
            raise Damaged(f"The pool's '{name}' is missing or of another shape")
    weights, points = pool[3], pool[4]
    if points is None or points.ndim != 2 or len(points) != count or len(header["khats"]) != 5:
        raise Damaged("The pool's points are missing or of another shape")
    if weights is None or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise Damaged("The pool's weights are no weights")
    for name in given:
        if name.startswith("pool/"):
            continue
        site, value = name.partition("/")[2], arrays[name]
        if site not in sites or len(value) != count or value.dtype.kind not in "fiu":
            raise Damaged(f"The draws of '{site}' are not those of a site")
    missing = [
        site["name"]
        for site in header["structure"]["sites"]
        if site["kind"] == "latent"
        and site["values"] is None
        and not site.get("integrated")
        and f"draws/{site['name']}" not in arrays
    ]
    if missing and not _partly(header):
        raise Damaged(f"There are no draws of '{missing[0]}'")


def _partly(header: Mapping[str, Any]) -> bool:
    """Whether sites with many scalars may be without draws."""
    return header["answer"] != "gaussian" if header["version"] > 1 else False


def _check_summary(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Two tables with the same rows; numbers, unless the draws of a scalar are none."""
    names = header["parameters"]
    given = [name for name in arrays if name.startswith("summary/")]
    if names is None:
        if given:
            raise Damaged(f"The header knows no '{given[0]}'")
        return
    for name in given:
        value = arrays[name]
        if value.shape != (len(names),) or value.dtype.kind not in "fiu":
            raise Damaged(f"'{name}' has the shape {value.shape} and dtype {value.dtype}, for {len(names)} parameters")
    owners = [re.sub(r"\[[\d,]*\]$", "", name) for name in names]
    wild = {n.partition("/")[2] for n, v in arrays.items() if n.startswith("draws/") and not np.isfinite(v).all()}
    sure = np.array([f"draws/{owner}" in arrays and owner not in wild for owner in owners], bool)
    for kind in ("best", "raw"):
        for column in (*_SUMMARY, "mcse_mean"):
            value = arrays.get(f"summary/{kind}/{column}")
            if value is None:
                raise Damaged(f"The summary lacks '{column}'")
            if column in _SUMMARY and np.isnan(value[sure]).any():
                raise Damaged(f"The summary's '{column}' is no number, though the draws are")
