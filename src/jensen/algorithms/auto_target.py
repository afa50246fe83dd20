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
    """`conjugate` where coordinate ascent applies to the whole model, `density` where latents are continuous.

    Discrete latents may be summed out of the density; beside coordinate ascent only where the data are not large.
    """

    conjugate: ConjugateTarget | None
    density: Target | None

    @property
    def precision(self) -> Precision:
        """Working precision of what is not run on the host."""
        found = self.conjugate or self.density
        assert found is not None  # one of the two always exists
        return found.precision


def prepared(model: Any, data: Mapping[str, Any] | None, precision: Precision) -> AutoTarget:
    """Analyse the model in every way that applies. Raises what the analysis of its density raises if none does."""
    conjugate = None if isinstance(model, LogDensity) else _conjugate(model, data, precision)
    if conjugate is not None and any(b.discrete for b in conjugate.model.blocks.values()):
        return AutoTarget(conjugate, None if conjugate.heavy else _density(model, data, precision))
    return AutoTarget(conjugate, build(model, data, precision))


def _density(model: Any, data: Mapping[str, Any] | None, precision: Precision) -> Target | None:
    """The density with its discrete latents summed out, if they can be and something is left."""
    try:
        return build(model, data, precision)
    except ModelError:
        return None


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
