"""Controls that do not vary: rounding is not taken for spread."""

import jax
import jax.numpy as jnp
import numpy as np

from jensen._estimators.regression import regressed
from jensen._families.native import Poisson
from jensen._math.precision import working


def test_a_control_without_spread_in_one_half_is_left_out():
    """The first count is zero throughout the first half of the draws, so what the second leaves out stands still."""
    rng = np.random.default_rng(3)
    counts = np.stack([np.zeros(16), rng.poisson(9.0, size=16)], axis=1)
    counts[[9, 15], 0] = 1.0
    with working("double"):
        factor = Poisson(jnp.log(jnp.array([0.11514347, 9.0])))
        value = jnp.asarray(counts)
        log_q = jax.vmap(factor.log_prob)(value)
        log_p = -0.05 * (value[:, 1] - 8.0) ** 2 - 3.0 * value[:, 0]
        slope = regressed(factor, value, log_p[:, None] - log_q, log_p - log_q.sum(axis=1)).log_rate
    assert np.abs(np.asarray(slope)).max() < 100.0, slope
