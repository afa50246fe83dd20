"""A model bound to the layout of its discrete latents."""

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jensen._base.errors import ModelError
from jensen._discrete.layout import DiscreteLayout
from jensen._discrete.plan import lay_out
from jensen._discrete.selfcheck import contradicted
from jensen._program.structure import Structure

if TYPE_CHECKING:
    from jensen._model.numpyro import NumPyroModel

_LAYOUTS: "weakref.WeakKeyDictionary[Structure, DiscreteLayout]" = weakref.WeakKeyDictionary()
"""Checked layouts by structure: the same object again, so that compiled programs are found again."""


def summed_out(
    model: "NumPyroModel", structure: Structure, parents: Callable[[], Mapping[str, tuple[str, ...]]], evaluable: bool
) -> Any:
    """The model with its discrete latents summed out: a density of the continuous ones.

    The layout is checked against the program at random values (not with `evaluable=False`, when nothing is compiled);
    one that other data of the same shapes confirmed is checked again. `parents` gives the latents that each site
    depends on.
    """
    if not structure.latents:
        raise ModelError(
            "All latent sites are discrete, so that nothing is left for a Gaussian once they are summed out.",
            f"Sites: {', '.join(site.name for site in structure.summed)}.",
            "Use coordinate ascent (method='cavi') or black-box VI (method='bbvi').",
        )

    known = _LAYOUTS.get(structure)
    if known is not None and not (evaluable and contradicted(model, known)):
        return dataclasses.replace(model, discrete=known)
    names = {site.name for site in structure.summed}
    above = parents() if structure.deterministic else {}
    computed = tuple(site.name for site in structure.deterministic if names & set(above[site.name]))
    check = (lambda layout: contradicted(model, layout)) if evaluable else None
    layout = lay_out(model.fn, structure, model.data, model.fixed.value, computed, check)
    if evaluable:
        _LAYOUTS[structure] = layout
    return dataclasses.replace(model, discrete=layout)
