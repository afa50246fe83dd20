"""Several fits of one data set, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jensen._base.caution import quiet
from jensen._base.errors import OptionError
from jensen._fit.arviz import observed_values

if TYPE_CHECKING:
    from jensen._fit.result import Fit
    from jensen._verdict.evidence import Evidence


@quiet()
def compare(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """One row per fit, the highest evidence first, and of fits whose evidence is the same the highest bound.

    Fits of one model by several methods and fits of several models on one data set are comparable, fits of different
    data are not and are refused. (Of fits loaded from files without their model only the shapes of the observed sites
    are known.) Two estimates count as the same within two standard errors; where a fit's weights allow no upper limit
    of the evidence, its lower limit stands for the estimate: its model may have the higher evidence all the same.

    Columns: elbo, elbo_se (nats); difference, of the bounds with all labellings counted, to the highest; log_evidence,
    log_evidence_se, the estimate by importance sampling of log p(x) with all its labellings, to be believed as far as
    khat < 0.7; log_labellings, the log number of these (0 where there is one); khat, of p/q; verdict; seconds_compile,
    seconds_run; gradients, the number of log-density gradients; converged; method.

    Example:
        >>> import jensen as jn
        >>> model = jn.LogDensity(lambda z: -0.5 * (z["x"] - 1) ** 2, {"x": ()})
        >>> table = jn.compare({m: jn.fit(model, method=m) for m in ("laplace", "auto")})
        >>> bool(abs(table["difference"]).max() < 1e-9)
        True
    """
    if not isinstance(fits, Mapping) or not fits:
        raise OptionError(
            "compare needs a mapping of names to fits.", "Argument: fits.", "Pass {'laplace': fit_a, 'auto': fit_b}."
        )
    for name, fit in fits.items():
        if not hasattr(fit, "elbo") or not hasattr(fit, "structure"):
            raise OptionError(f"'{name}' is a {type(fit).__name__}, not a fit.", "Argument: fits.", "Pass Fit objects.")
    _same_data(fits)
    found = [fit.evidence() for fit in fits.values()]
    rows = [_row(fit, bounds) for fit, bounds in zip(fits.values(), found, strict=True)]
    frame = pd.DataFrame(rows, index=pd.Index(list(fits), name="fit"))
    bound = np.array([fit.elbo.value - one.elbo + one.bound for fit, one in zip(fits.values(), found, strict=True)])
    frame.insert(2, "difference", bound - np.nanmax(bound, initial=-np.inf))
    return frame.iloc[_order(found, bound)]


def _order(found: list[Evidence], bound: np.ndarray) -> list[int]:
    """Highest evidence first; neighbours within two standard errors of each other by their bounds."""
    value, error = [], []
    for one in found:
        known = np.isfinite(one.interval[1]) and np.isfinite(one.log_evidence_se)
        value.append(one.log_evidence if known else np.nan_to_num(one.interval[0], nan=-np.inf))
        error.append(one.log_evidence_se if known else 0.0)
    groups: list[list[int]] = []
    for i in sorted(range(len(found)), key=lambda i: -value[i]):
        last = groups[-1][-1] if groups else i
        near = groups and value[last] - value[i] <= 2.0 * np.hypot(error[last], error[i]) + 1e-6
        groups[-1].append(i) if near else groups.append([i])
    return [i for group in groups for i in sorted(group, key=lambda i: -bound[i])]


def _row(fit: Fit, evidence: Evidence) -> dict[str, Any]:
    report = fit.check()
    return {
        "elbo": fit.elbo.value,
        "elbo_se": fit.elbo.se,
        "log_evidence": evidence.log_evidence,
        "log_evidence_se": evidence.log_evidence_se,
        "log_labellings": evidence.log_labellings,
        "khat": report.khat,
        "verdict": report.verdict,
        "seconds_compile": fit.timings["compile"],
        "seconds_run": fit.timings["run"],
        "gradients": int(fit.timings["gradients"]),
        "converged": fit.converged,
        "method": fit.method,
    }


def _same_data(fits: Mapping[str, Fit]) -> None:
    """Raise unless all fits observe the same values (shapes, where the values are not at hand)."""
    (first_name, first), *others = fits.items()
    for name, other in others:
        difference = _difference(first, other)
        if difference:
            raise OptionError(
                f"The fits '{first_name}' and '{name}' are of different data, so their bounds are not comparable.",
                difference,
                "Fit all models to the same observations.",
            )


def _difference(first: Fit, other: Fit) -> str:
    """What tells two fits' data apart, as a sentence; empty if nothing does."""
    plain = [fit.target is not None and fit.answer.program is None for fit in (first, other)]
    if any(plain):
        # A log density does not say which of its data are observed: two of them must agree in every array they share.
        arrays = [_arrays(fit) for fit in (first, other)]
        shared = [key for key in arrays[0] if key in arrays[1]]
        return _unequal({k: arrays[0][k] for k in shared}, {k: arrays[1][k] for k in shared}, "Data key")
    shapes = [{site.name: site.shape for site in fit.structure.observed} for fit in (first, other)]
    if sorted(shapes[0].values()) != sorted(shapes[1].values()):
        return f"Observed shapes: {shapes[0]} and {shapes[1]}."
    if first.target is None or other.target is None:
        return ""
    values = [observed_values(fit) for fit in (first, other)]
    if set(values[0]) == set(values[1]):
        return _unequal(values[0], values[1], "Site")
    pools = [sorted((v.shape, np.asarray(v, float).tobytes()) for v in value.values()) for value in values]
    return "" if pools[0] == pools[1] else f"Observed sites: {', '.join(values[0])} and {', '.join(values[1])}."


def _arrays(fit: Fit) -> dict[str, np.ndarray]:
    if fit.target is None:
        return {}
    source: Any = fit.answer.program or fit.target.model
    return {name: np.asarray(value) for name, value in source.kwargs.items() if np.ndim(value)}


def _unequal(first: dict[str, np.ndarray], other: dict[str, np.ndarray], kind: str) -> str:
    for name, value in first.items():
        if value.shape != other[name].shape:
            return f"{kind} '{name}': shapes {value.shape} and {other[name].shape}."
        if not np.array_equal(np.asarray(value, float), np.asarray(other[name], float), equal_nan=True):
            return f"{kind} '{name}': values differ."
    return ""
