"""jensen: variational inference with a verdict.

import jensen as jn

fit = jn.fit(model, data)          # a NumPyro model or a jn.LogDensity; nothing to tune
fit.summary()                      # means, sds, quantiles, Monte Carlo errors
fit.check()                        # trusted / usable with importance weights / untrusted, and why
fit.evidence()                     # the ELBO, tighter bounds, an estimate of log p(x)
fit.sample(1000); fit.predict(); fit.to_arviz(); fit.save("fit.jn"); jn.load("fit.jn")
jn.explain(model, data)            # what jensen sees in the model
jn.compare({"a": fit, "b": other}) # several fits side by side
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jensen import cache
from jensen._errors import (
    DataError,
    JensenError,
    ModelError,
    OptionError,
    SavedFitError,
    UndefinedError,
    UntrustedWarning,
)
from jensen.bounds import ELBO, ChiUpper, ImportanceWeighted, Renyi, Weighted
from jensen.data import Batches, Ragged
from jensen.estimators import DoublyReparameterised, ExactEntropy, Pathwise, ScoreFunction, StickingTheLanding
from jensen.fit import fit
from jensen.methods import advi, amortised, auto, bbvi, cavi, hvm, laplace, naive, nested, pathfinder, svi
from jensen.models import LogDensity
from jensen.result import Fit

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from jensen.core import AbstractBound, AbstractEstimator
    from jensen.diagnostics.gradient_variance import GradientVariance
    from jensen.models.contract import AbstractProgram
    from jensen.plan import Plan

__version__ = "0.1.0"
cache.start()


def load(path: str | PathLike[str]) -> Fit:
    """Read a fit written by `Fit.save`; see `jensen.interop.files.load`."""
    from jensen.interop.files import load as read

    return read(path)


def explain(
    model: Callable[..., Any] | AbstractProgram, data: Mapping[str, Any] | Batches | Ragged | None = None
) -> Plan:
    """What jensen sees in a model: sites, supports, plates, dependencies; see `jensen.plan.Plan`."""
    from jensen.plan import explain as plan

    return plan(model, data)


def gradient_variance(
    model: Callable[..., Any] | AbstractProgram,
    data: Mapping[str, Any] | None = None,
    q: Any = None,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    *,
    bound: AbstractBound | None = None,
    num_gradients: int = 2000,
    seed: int = 0,
) -> GradientVariance:
    """Bias, variance and cost of gradient estimators; see `jensen.diagnostics.gradient_variance`."""
    from jensen.diagnostics.gradient_variance import gradient_variance as measure

    return measure(model, data, q, estimators, bound=bound, num_gradients=num_gradients, seed=seed)


def compare(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """Several fits side by side; see `jensen.diagnostics.comparison.compare`."""
    from jensen.diagnostics.comparison import compare as table

    return table(fits)


__all__ = [
    "ELBO",
    "Batches",
    "ChiUpper",
    "DataError",
    "DoublyReparameterised",
    "ExactEntropy",
    "Fit",
    "ImportanceWeighted",
    "JensenError",
    "LogDensity",
    "ModelError",
    "OptionError",
    "Pathwise",
    "Ragged",
    "Renyi",
    "SavedFitError",
    "ScoreFunction",
    "StickingTheLanding",
    "UndefinedError",
    "UntrustedWarning",
    "Weighted",
    "advi",
    "amortised",
    "auto",
    "bbvi",
    "cache",
    "cavi",
    "compare",
    "explain",
    "fit",
    "gradient_variance",
    "hvm",
    "laplace",
    "load",
    "naive",
    "nested",
    "pathfinder",
    "svi",
]
