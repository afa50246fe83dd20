"""What `auto` finds in a model: an expected log joint, a log density over R^D, both, or its values alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jensen._base.errors import ModelError, OptionError
from jensen._conjugate.algebra import ConjugateTarget, conjugate_target
from jensen._conjugate.algebra.candidates import promising
from jensen._conjugate.coordinate.stream import StreamTarget
from jensen._conjugate.svi import SVI
from jensen._core import AbstractTarget
from jensen._data.data_check import MissingValues, as_mapping, check_names, convert
from jensen._data.sources import AbstractSource
from jensen._families.native import native_product
from jensen._gaussian import account
from jensen._math.precision import Precision, working
from jensen._model import Target, build
from jensen._model.native import NativeTarget, native_target
from jensen._nested import (
    FieldTarget,
    NestedTarget,
    bent,
    candidates,
    check_levels,
    integrated,
    over_field,
    quadratic,
)
from jensen._program.programs import as_program

MANY, FEW, SOME, SMALL, FIELD = 10, 20, 300, 2, 30
"""Latents from which on groups of them are looked for, at most so many that a field and groups may leave, latents of a
group from which on a field is tried first, and latents of a field."""
SMALL_FIELD = 8
"""Latents of a field that is tried where the verdict on a Gaussian of all of them is untrusted."""
LEVELS = 3
"""Latents of a site from which on it may be the levels of a factor."""
DEAREST, DEARER, AS_DEAR, CHEAP = 1e9, 3.0, 1.5, 1e5
"""Data values that one evaluation of a field's integral may read in any case; how many times as many it may be with all
latents on the real line in it, or where data are many (more if that leaves fewer latents by a larger factor), and how
many in any case. Of all that are Gaussian, the same for the multiplications of a factorisation."""
CHEAPER = 8
"""Times as much that a field may cost as groups that leave more latents."""


@dataclass(frozen=True, eq=False)
class AutoTarget(AbstractTarget):
    """`conjugate` where coordinate ascent applies to the whole model, `density` where latents are continuous.

    Discrete latents may be summed out of the density; beside coordinate ascent only where the data are not large.
    `nested` are densities of θ, where most latents are small groups or a field that can be integrated out given θ, in
    the order they are to be tried.
    `native`, the model on its own supports, stands alone: where neither of the others is possible. So does `stream`,
    where the data come in batches. `why` says for what reason there is a native target, or no nested one.
    """

    conjugate: ConjugateTarget | None
    density: Target | None
    native: NativeTarget | None = None
    why: str = ""
    stream: StreamTarget | None = None
    nested: tuple[NestedTarget, ...] = ()

    @property
    def precision(self) -> Precision:
        """Working precision of what is not run on the host."""
        found = self.conjugate or self.density or self.native or self.stream
        assert found is not None  # one of them always exists
        return found.precision


def prepared(
    model: Any, data: Mapping[str, Any] | AbstractSource | None, precision: Precision, integrate: bool = True
) -> AutoTarget:
    """Analyse the model in every way that applies. Raises what the analysis of its density raises if none does."""
    if isinstance(data, AbstractSource):
        stream = SVI().prepare(model, data, precision)
        assert isinstance(stream, StreamTarget)  # as for every source
        return AutoTarget(None, None, stream=stream)
    if any(isinstance(value, np.memmap) for value in (data or {}).values()):
        data = convert(data or {}, precision)  # read once, not by every analysis
    conjugate = _conjugate(model, data, precision)
    if conjugate is not None and any(b.discrete for b in conjugate.model.blocks.values()):
        return AutoTarget(conjugate, None if conjugate.heavy else _density(model, data, precision))
    if conjugate is not None:
        return AutoTarget(conjugate, build(model, data, precision))
    try:
        density = build(model, data, precision)
        nested, why = worthwhile(density) if integrate else ((), "")
        return AutoTarget(None, density, nested=nested, why=why)
    except ModelError as error:
        native, why = black_box(model, data, precision, error)
        return AutoTarget(None, None, native, why)


def worthwhile(density: Target) -> tuple[tuple[NestedTarget, ...], str]:
    """Nested densities that leave few latents of many, in the order they are to be tried, and what speaks against more.

    Groups that are independent given the rest come first where they leave few others; else all latents on the real line
    are a field, if there are many and it can be factorised, and then groups that leave more; these first where the
    field costs many times as much. What is exact, Gaussian given the rest, comes before what is not.
    """
    if density.dim < MANY:
        return (), ""
    groups = integrated(density)
    if groups is None or groups.dim > min(SOME, density.dim // 2):
        groups = None
    found = () if groups is None else (groups,)
    if groups is not None and groups.dim <= FEW and groups.model.layout.size <= SMALL and not _levels(density, groups):
        return found, ""
    if groups is not None and groups.model.layout.quadratic and not quadratic(density, candidates(density)):
        return found, ""
    field, why = field_of(density)
    if field is None:
        return found, why
    if groups is None:
        return (field,), ""
    dear = not field.model.order.quadratic and CHEAPER * _cost(groups) < _cost(field)
    beside = groups.dim <= min(FEW, field.dim) or dear
    return ((*found, field) if beside else (field, *found)), why


def _cost(nested: NestedTarget) -> int:
    """Data values that as many evaluations read as there are coordinates."""
    return nested.dim * nested.elements


def _levels(density: Target, groups: NestedTarget) -> bool:
    """Whether groups leave sites that could be a field with them: the levels of another factor, say."""
    return bool({site.name for site in groups.structure.latents} & set(candidates(density, LEVELS)))


def field_of(density: Target, fewest: int = FIELD) -> tuple[FieldTarget | None, str]:
    """The density of few latents, with all on the real line integrated out, or what speaks against it, if anything.

    These must be so many, `fewest`, that the programs are worth their compilation.
    """
    names = candidates(density)
    size = sum(site.size for site in density.structure.latents if site.name in names)
    if size < fewest or not 0 < density.dim - size <= FEW:
        return None, ""
    everything = candidates(density, 1)
    bends = bent(density, everything)  # where it does not, some of them do not either
    why = bends and (bends if names == everything else bent(density, names))
    if why:
        return None, why
    # What is Gaussian with the field given the scales is exact beside it, and climbs along no ridge between the two.
    # Elsewhere it is nearly so, and every coordinate less saves evaluations.
    wider = None if bends else _affordable(density, everything)
    exact = wider is not None and wider.model.order.quadratic
    if wider is not None and exact and (wider.elements <= CHEAP or wider.dearer(names) <= DEARER):
        return check_levels(wider), ""
    left = sum(site.size for site in density.structure.latents if site.name not in everything)
    fewer = (density.dim - size) / max(left, 1)
    if wider is not None and not exact and wider.at_most(names) <= max(AS_DEAR if wider.heavy else DEARER, fewer):
        return check_levels(wider), ""
    field = wider if everything == names else _affordable(density, names)
    if field is None:
        return None, ""
    if check_levels(field).model.order.quadratic or wider is None:
        return field, ""
    most = max(AS_DEAR if field.heavy else DEARER, fewer) * field.elements
    return (wider if wider.elements <= (most if field.heavy else max(most, CHEAP)) else field), ""


def _affordable(density: Target, names: tuple[str, ...]) -> FieldTarget | None:
    """The density with these sites integrated out, where an evaluation is no dearer than all that a fit without is."""
    try:
        field = over_field(density, names)
    except (ModelError, OptionError):  # it is too dense to be factorised, or nothing is left
        return None
    cheap = field.elements <= DEAREST
    return field if cheap or account.of_field(field) < account.of_gradients(density) else None


def black_box(
    model: Any, data: Mapping[str, Any] | None, precision: Precision, error: ModelError, evaluable: bool = True
) -> tuple[NativeTarget, str]:
    """The model as black-box VI takes it, and why nothing else does: `error`, which is raised where it helps nothing.

    It helps with discrete latents that cannot be summed out, and with densities outside JAX.
    """
    if not as_program(model).traced:
        return native_target(model, data, precision, evaluable=evaluable), "The log density runs outside JAX."
    try:
        native = native_target(model, data, precision, evaluable=evaluable)
        native_product(native.structure.latents, native.supports)
    except ModelError:
        raise error from None
    if not any(site.discrete for site in native.structure.latents):
        raise error
    return native, error.what


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
    except (ModelError, MissingValues):  # NaN that the model fills may do for a density
        return None
