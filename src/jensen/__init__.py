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

from jensen import cache
from jensen._errors import (
    DataError,
    JensenError,
    LongFitWarning,
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

__version__ = "0.1.0"
cache.start()


def load(path):
    """Read a fit written by `Fit.save`; see `jensen.interop.files.load`."""
    from jensen.interop.files import load as read

    return read(path)


def explain(model, data=None):
    """What jensen sees in a model: sites, supports, plates, dependencies; see `jensen.plan.Plan`."""
    from jensen.plan import explain as plan

    return plan(model, data)


def gradient_variance(model, data=None, q=None, estimators=None, **options):
    """Bias, variance and cost of gradient estimators; see `jensen.diagnostics.gradient_variance`."""
    from jensen.diagnostics.gradient_variance import gradient_variance as measure

    return measure(model, data, q, estimators, **options)


def compare(fits):
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
