"""Several fits of one data set, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jensen._caution import quiet
from jensen._errors import OptionError
from jensen.interop.arviz import observed_values

if TYPE_CHECKING:
    from jensen.result import Fit


@quiet()
def compare(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """One row per fit, the highest bound first.

    The bound is on log p(x): fits of one model by several methods and fits of several models on one data set are
    comparable, fits of different data are not and are refused. (Of fits loaded from files without their model only the
    shapes of the observed sites are known.) A bound is a lower bound: a model whose bound is lower may still have the
    higher evidence, by as much as its gap.

    Columns: elbo, elbo_se (nats); difference, to the highest; log_evidence, log_evidence_se, its estimate by importance
    sampling, to be believed as far as khat < 0.7; khat, of p/q; verdict; seconds_compile, seconds_run; gradients, the
    number of log-density gradients; converged; method.

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
    frame = pd.DataFrame([_row(fit) for fit in fits.values()], index=pd.Index(list(fits), name="fit"))
    frame.insert(2, "difference", frame["elbo"] - frame["elbo"].max())
    return frame.sort_values("elbo", ascending=False, kind="stable")


def _row(fit: Fit) -> dict[str, Any]:
    evidence, report = fit.evidence(), fit.check()
    return {
        "elbo": fit.elbo.value,
        "elbo_se": fit.elbo.se,
        "log_evidence": evidence.log_evidence,
        "log_evidence_se": evidence.log_evidence_se,
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
