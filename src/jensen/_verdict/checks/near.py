"""Whether a figure of the verdict is so near its limit that other draws could judge otherwise."""

import numpy as np

from jensen._verdict.checks.moments import MEAN, RATIO
from jensen._verdict.checks.weights import ESS
from jensen._verdict.importance import Pool
from jensen._verdict.verdict import Material, limit_for

ERRORS = 2.0
"""Standard errors of a figure within which of its limit it counts as near."""

MORE = 4
"""How many times as many draws there may be."""


def hopeful(pool: Pool) -> bool:
    """Whether more draws could make weights of use, if these are not."""
    if not np.isfinite(pool.khat) or not (pool.even or pool.khat < limit_for(pool) + pool.khat_q_se):
        return False
    return MORE * pool.ess >= min(ESS, len(pool.weights))


def undecided(material: Material) -> bool:
    """Whether k̂, a mean or an sd is within its error of the limit, on weights that are not hopeless."""
    if not hopeful(material.pool):
        return False
    pool, found, limit = material.pool, material.agreement, material.limit
    shapes = [(pool.khat_q, pool.even_q or pool.even), (pool.khat, pool.even)]
    shape = any(abs(khat - limit) < pool.khat_q_se and not level for khat, level in shapes)
    mean = abs(found.mean - MEAN) < ERRORS * min(found.error, found.noise)
    sd = abs(abs(np.log(found.ratio)) - np.log(RATIO)) < ERRORS * min(found.spread, np.log(RATIO))
    return bool(shape or mean or sd or found.spread >= RATIO - 1.0)
