"""Pareto smoothing, against ArviZ."""

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from jensen._math import pareto


@pytest.mark.parametrize("count", [40, 225, 226, 5000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0, 20.0])
def test_weights_and_shape_are_those_of_arviz(count, spread):
    logs = spread * np.random.default_rng(count).standard_t(5, size=count)
    with np.errstate(all="ignore"):
        expected, shape = array_stats.psislw(-logs)
        found, khat = pareto.smoothed(logs)
    np.testing.assert_allclose(khat, shape, rtol=1e-10)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_the_shape_of_a_pareto_tail_is_found():
    uniform = (np.arange(100_000) + 0.5) / 100_000
    assert pareto.smoothed(-0.6 * np.log(uniform))[1] == pytest.approx(0.6, abs=0.02)


def test_a_tail_that_underflows_has_no_shape():
    logs = 60.0 * np.random.default_rng(5000).standard_t(5, size=5000)
    with np.errstate(all="ignore"):
        weights, khat = pareto.smoothed(logs)
    assert np.isnan(khat)
    assert np.isfinite(weights).all()


def test_a_tail_of_equal_weights_is_refused():
    with pytest.raises(ValueError, match="the same"):
        pareto.smoothed(np.zeros(100))
