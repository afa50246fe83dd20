"""What `auto` finds in a model: an expected log joint, a log density over R^D, or both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jensen._errors import ModelError
from jensen.math.precision import Precision, working
from jensen.models import LogDensity, Target, build
from jensen.models.conjugacy import ConjugateTarget, conjugate_target
from jensen.models.conjugacy.candidates import promising
from jensen.models.data_check import as_mapping, check_names, convert


@dataclass(frozen=True, eq=False)
class AutoTarget:
    """`conjugate` where coordinate ascent applies to the whole model, `density` where all latents are continuous."""

    conjugate: ConjugateTarget | None
    density: Target | None


def prepared(model: Any, data: Mapping[str, Any] | None, precision: Precision) -> AutoTarget:
    """Analyse the model in every way that applies. Raises what the analysis of its density raises if none does."""
    conjugate = None if isinstance(model, LogDensity) else _conjugate(model, data, precision)
    if conjugate is not None and any(b.discrete for b in conjugate.model.blocks.values()):
        return AutoTarget(conjugate, None)
    return AutoTarget(conjugate, build(model, data, precision))


def _conjugate(model: Any, data: Mapping[str, Any] | None, precision: Precision) -> ConjugateTarget | None:
    if not callable(model):
        return None
    mapping = as_mapping(data)
    check_names(model, mapping)
    with working(precision):
        if not promising(model, convert(mapping, precision)):
            return None
    try:
        return conjugate_target(model, data, precision=precision)
    except ModelError:
        return None
