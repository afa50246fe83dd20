"""What a model by rows must be for some options, and what is left of it when rows are held out."""

from typing import Any

import numpy as np

from jensen._amortised.family.row_factors import joint_states
from jensen._amortised.model import RowTarget, row_target
from jensen._amortised.model.gaussian import bent_priors
from jensen._base.errors import OptionError
from jensen._data.data_check import as_mapping
from jensen._math.precision import Precision
from jensen._model.parameters import Parameter


def divided(
    target: RowTarget, fn: Any, data: Any, precision: Precision, parameters: tuple[Parameter, ...], share: float
) -> RowTarget:
    """The model on the rows that are not held out, with those that are."""
    order = np.random.default_rng(0).permutation(target.size)
    count = max(1, round(share * target.size))
    rest, held = np.sort(order[count:]), np.sort(order[:count])
    if len(rest) < 2:
        raise OptionError(
            f"held_out={share} leaves {len(rest)} of {target.size} rows to fit.", "Option: held_out.", "Hold out fewer."
        )
    given = {**as_mapping(data), **{name: value[rest] for name, value in target.rows.items()}}
    found = row_target(fn, given, precision, parameters, target.plate)
    found.held = {name: value[held] for name, value in target.rows.items()}
    return found


def check_structure(target: RowTarget) -> None:
    """Raise where a row's latents have no Gaussian prior to which a potential could be joined."""
    remedy = "Use family='full_rank', or write the latents as normal ones and transform them in the model."
    if not target.layout.dim:
        raise OptionError("The rows have no continuous latents to be structured.", "Option: family.", "Leave it out.")
    bent = bent_priors(target)
    if bent:
        site = target.structure.sites[bent[0]]
        raise OptionError(
            f"The prior of the rows' latents is not Gaussian: '{bent[0]}' is {site.distribution}, whose log density is "
            "no quadratic function of them.",
            f"Option: family='structured'. Sites: {', '.join(bent)}.",
            remedy,
        )
    if target.layout.codes and joint_states(target.layout) is None:
        raise OptionError(
            "The rows' discrete latents have too many joint states to average their prior over.",
            f"Option: family='structured'. Sites: {', '.join(code.name for code in target.layout.codes)}.",
            remedy,
        )
