"""The checks that products of factors share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._core import AbstractCheck
from jensen._verdict.answer import CORRECTED, Draws
from jensen._verdict.checks import Labellings, Modes, Moments, Optimiser, States, Tails, Weights
from jensen._verdict.importance import Pool
from jensen._verdict.states import LISTED, Probabilities, from_draws

_JOIN = 'Factors of q ignore dependence: join sites that depend on each other, jn.cavi(blocks=(("a", "b"),)), '
_OFTEN = "Means are often right where sds are not."
FACTORS = {
    "usable": CORRECTED,
    "untrusted": f"{_JOIN}take method='auto', or go on with NUTS. {_OFTEN}",
}
BY_AUTO = {"usable": CORRECTED, "untrusted": f"{_JOIN}or go on with NUTS. {_OFTEN}"}
"""The same where the automatic choice, or what it tries, has come to these factors."""
NOISE = 0.15
"""Error in sd that corrected means may have: pools of factors are smaller where the data are many."""


def factor_checks(how: str, *, exact: bool = False) -> tuple[AbstractCheck, ...]:
    """Other optima, moments and weights; `how` says on what these are, `exact` that q is the posterior itself."""
    return Modes("optima"), Optimiser(), Moments(NOISE), States(), Weights(how, 0.125, exact), Tails(), Labellings()


def factor_probabilities(
    sites: Mapping[str, Any], own: Draws | None, pool: Pool, draws: Draws
) -> dict[str, Probabilities]:
    """Of these discrete sites, name -> values; `own` are draws of q, where the first half of the pool are none."""
    found = {}
    for name, values in sites.items():
        if name in draws and values is not None and draws[name][0].size * len(values) <= LISTED:
            mine = None if own is None else own[name]
            found[name] = from_draws(np.asarray(values), mine, draws[name], pool)
    return found
