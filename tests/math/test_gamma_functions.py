"""log Γ and digamma against SciPy, in both precisions."""

import jax
import numpy as np
import pytest
from scipy import special

from jensen._math.gamma_functions import digamma, gammaln
from jensen._math.precision import working

POINTS = np.concatenate([np.logspace(-8, 7, 2001), np.linspace(0.5, 3.0, 1001)])
CASES = {
    "digamma": (digamma, special.digamma, lambda x: special.polygamma(1, x)),
    "gammaln": (gammaln, special.gammaln, special.digamma),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("precision", "kind", "error"), [("double", np.float64, 1e-14), ("single", np.float32, 3e-6)])
def test_values_and_derivatives(name, precision, kind, error):
    ours, exact, slope = CASES[name]
    x = POINTS.astype(kind)
    wide = x.astype(float)
    with working(precision):
        found = np.asarray(jax.jit(ours)(x))
        slopes = np.asarray(jax.jit(jax.vmap(jax.grad(ours)))(x))
    assert found.dtype == kind
    assert np.max(np.abs(found - exact(wide)) / np.maximum(1.0, np.abs(exact(wide)))) < error
    assert np.max(np.abs(slopes - slope(wide)) / np.maximum(1.0, np.abs(slope(wide)))) < error


def test_outside_the_domain():
    with working("double"):
        assert digamma(0.0) == -np.inf
        assert gammaln(0.0) == np.inf
        assert np.isnan(digamma(-0.5))
        assert np.isnan(gammaln(-0.5))
