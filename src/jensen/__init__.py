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

import importlib
from typing import TYPE_CHECKING, Any

from jensen import cache
from jensen._base.errors import (
    DataError,
    JensenError,
    LongFitWarning,
    MissingExtraError,
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
    from jensen._explain.plan import explain
    from jensen._fit.comparison import compare
    from jensen._fit.gradient_variance import gradient_variance
    from jensen._fit.loading import load

_LATER = {
    "compare": "jensen._fit.comparison",
    "explain": "jensen._explain.plan",
    "gradient_variance": "jensen._fit.gradient_variance",
    "load": "jensen._fit.loading",
}
"""Functions whose modules a process that only fits does not need."""

cache.start()


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'jensen' has no attribute '{name}'")
    found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


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
    "MissingExtraError",
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
