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
from jensen._base.errors import (
    DataError,
    JensenError,
    LongFitWarning,
    ModelError,
    OptionError,
    SavedFitError,
    UndefinedError,
    UntrustedWarning,
)
from jensen._base.version import __version__
from jensen._bounds import ELBO, ChiUpper, ImportanceWeighted, Renyi, Weighted
from jensen._estimators import DoublyReparameterised, ExactEntropy, Pathwise, ScoreFunction, StickingTheLanding
from jensen._fit.fit import fit
from jensen._fit.methods import advi, amortised, auto, bbvi, cavi, hvm, laplace, naive, nested, pathfinder, svi
from jensen._fit.result import Fit
from jensen._model import LogDensity
from jensen.data import Batches, Ragged

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from jensen._core import AbstractBound, AbstractEstimator
    from jensen._explain.plan import Plan
    from jensen._fit.gradient_variance import GradientVariance
    from jensen._program.contract import AbstractProgram
    from jensen.data import AbstractSource

cache.start()


def load(path: str | PathLike[str]) -> Fit:
    """Read a fit written by `Fit.save`; see `jensen._fit.loading.load`."""
    from jensen._fit.loading import load as read

    return read(path)


def explain(
    model: Callable[..., Any] | AbstractProgram, data: Mapping[str, Any] | AbstractSource | None = None
) -> Plan:
    """What jensen sees in a model: sites, supports, plates, dependencies; see `jensen._explain.plan.Plan`."""
    from jensen._explain.plan import explain as plan

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
    """Bias, variance and cost of gradient estimators at one q; see `jensen._fit.gradient_variance`."""
    from jensen._fit.gradient_variance import gradient_variance as measure

    return measure(model, data, q, estimators, bound=bound, num_gradients=num_gradients, seed=seed)


def compare(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """Several fits side by side; see `jensen._fit.comparison.compare`."""
    from jensen._fit.comparison import compare as table

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
    "LongFitWarning",
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
    "__version__",
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
